"""Does ck render published chat templates as transformers does: sixty conversations each, byte for byte.

    make templates
    python -m tests.frontend.published_templates [--json] TEMPLATE.jinja | DIRECTORY | MODEL ...

What transformers refuses, ck has to refuse. One line a template; exit code 5 when something differs. A model
is a GGUF file, a model folder or a known name; its template gets its own BOS and EOS.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ck.errors import CkError, UsageError
from ck.frontend.model import open_file
from ck.runtime.resolve import resolve_model
from tests.frontend.conversations import BOS, EOS, REFUSED, TALKS, Transformers, differences


@dataclass(frozen=True)
class Row:
    """One template: conversations in all, those that both sides refuse, names of those that differ."""

    template: str
    n_talks: int
    n_refused: int
    different: list[str]


def templates(names: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Name, source, BOS and EOS of every template that `names` mean. Raises CkError."""
    for name in names:
        path = Path(name)
        if path.is_dir() and not (path / "config.json").exists():
            yield from templates(sorted(map(str, path.glob("*.jinja"))))
        elif path.suffix == ".jinja":
            yield path.stem, path.read_text("utf-8"), BOS, EOS
        else:
            file = open_file(resolve_model(name))
            words = file.words()
            if file.chat_template is None or words is None:
                raise UsageError(f"{name}: must have a chat template and a tokenizer")
            bos, eos = (token[1] if token else "" for token in (words.bos, words.eos))
            yield file.name, file.chat_template, bos, eos


def main() -> int:
    parser = argparse.ArgumentParser(description="Render published chat templates as transformers does.")
    parser.add_argument("names", nargs="+", help="templates, folders of them, models")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    rows = list[Row]()
    try:
        for name, source, bos, eos in templates(given.names):
            theirs = Transformers(source, bos, eos)
            n_refused = [theirs.render(talk) for talk in TALKS].count(REFUSED)
            rows.append(Row(name, len(TALKS), n_refused, differences(source, bos, eos)))
            if not given.json:
                row = rows[-1]
                print(f"{name}: {row.n_talks} conversations, {n_refused} refused, {row.different or 'equal'}")
    except CkError as error:
        print(f"published_templates: {error}", file=sys.stderr)
        return error.exit_code
    n_different = sum(len(row.different) for row in rows)
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print(f"{len(rows)} templates, {sum(r.n_talks for r in rows)} texts, {n_different} differ")
    return 5 if n_different or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
