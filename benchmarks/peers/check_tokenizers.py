"""Do token ids equal llama.cpp's: both demo models, its own vocabulary files, every named pre-tokenizer.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/peers/check_tokenizers.py [--record]

The texts are those of tests/data/token_texts.json, and for a vocabulary file those that lie beside it, with
the ids that it names. --record writes llama.cpp's ids of the demo models, and a digest of those under each
pre-tokenizer, to tests/data/token_ids.json, which the tests read. A vocabulary of a kind that ck does not
have must be refused, with a line that names it. Exit code 5 when ids differ; those by design are counted.
"""

import argparse
import json
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import llama_cpp
from check_export import ask

from ck.errors import CkError, UnsupportedError
from ck.frontend.architectures.vocabularies import PRETOKENIZERS
from ck.frontend.gguf import GgufFile
from ck.frontend.tokenizer import Tokenizer
from ck.frontend.vocabulary import TokenType, Vocabulary, read_vocabulary
from ck.runtime.known_models import known_models
from ck.runtime.paths import private_dir
from ck.runtime.resolve import resolve_model

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.frontend import token_records as records
from tests.frontend.raw_gguf import STRING, RawFile, parse, text

SEPARATOR = "\n__ggml_vocab_test__\n"
Ids = list[list[int]]


def theirs(model: Path, texts: Sequence[str]) -> tuple[Ids, Ids]:
    """llama.cpp's ids of each text, as plain text and with control tokens recognised."""
    frames = [item.encode() for item in texts]
    data = b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)
    lines = [list(map(int, words)) for words in ask(model, "texts", stdin=data)]
    return lines[::2], lines[1::2]


def vocabulary_of(model: Path) -> Vocabulary:
    """The vocabulary in a file that may have nothing else. Raises UnsupportedError."""
    metadata = GgufFile(model).metadata
    return read_vocabulary(metadata, len(metadata.strings("tokenizer.ggml.tokens")))


class Differences:
    """How many texts were equal, were left out by design, differ."""

    def __init__(self) -> None:
        self.n_equal, self.n_by_design = 0, 0
        self.shown: list[str] = []

    def add(self, item: str, ours: list[int], expected: list[int], by_design: bool = False) -> None:
        """Count one text."""
        if ours == expected:
            self.n_equal += 1
        elif by_design:
            self.n_by_design += 1
        else:
            self.shown.append(f"    {ascii(item)[:70]}: ck {ours[:9]}, llama.cpp {expected[:9]}")

    def report(self, what: str) -> bool:
        """Print it; whether a text differs."""
        design = f", {self.n_by_design} other by design" if self.n_by_design else ""
        print(f"{what}: {self.n_equal} equal{design}, {len(self.shown)} different")
        print(*self.shown[:5], sep="\n", end="\n" if self.shown else "")
        return bool(self.shown)


def compare(what: str, tokenizer: Tokenizer, vocabulary: Vocabulary, found: tuple[Ids, Ids]) -> bool:
    """Whether a text of ours has other ids, plain or with control tokens."""
    differences = Differences()
    word = vocabulary.index.get(records.MARKUP)
    is_word = word is not None and vocabulary.types[word] != TokenType.CONTROL
    for item, plain, special in zip(records.texts(), *found, strict=True):
        by_design = is_word and records.MARKUP in item
        differences.add(item, tokenizer.encode(item, False), plain, by_design)
        differences.add(item, tokenizer.encode(item, False, parse_special=True), special, by_design)
    return differences.report(what)


def compare_own(tokenizer: Tokenizer, model: Path) -> bool:
    """Whether a text beside a vocabulary file has other ids than the file beside it says."""
    source = Path(f"{model}.inp")
    if not source.exists():
        return False
    differences = Differences()
    items = source.read_bytes().decode().split(SEPARATOR)
    # One line a text, that of no token too; some files end with one more line end than others.
    lines = Path(f"{model}.out").read_text().removesuffix("\n").split("\n")
    lines += [""] * (len(items) - len(lines))
    for item, line in zip(items, lines, strict=True):
        differences.add(item, tokenizer.encode(item, False), list(map(int, line.split())))
    return differences.report(f"{model.name}, its own texts")


def check_files() -> Iterator[bool]:
    """Each of llama.cpp's vocabulary files: whether it failed."""
    source = llama_cpp.fetch_source(private_dir(llama_cpp.folder()))
    for model in sorted((source / "models").glob("ggml-vocab-*.gguf")):
        try:
            vocabulary = vocabulary_of(model)
        except UnsupportedError as error:
            print(f"refused, exit code {error.exit_code}: {error}")
            continue
        tokenizer = Tokenizer.from_vocabulary(vocabulary, model.name)
        yield compare_own(tokenizer, model)
        yield compare(model.name, tokenizer, vocabulary, theirs(model, records.texts()))


def check_pretokenizers(digests: dict[str, str]) -> Iterator[bool]:
    """Each pre-tokenizer with the vocabulary of one demo model: whether it failed. Fills `digests`."""
    raw = parse(resolve_model(records.PRE_MODEL).read_bytes())
    raw = RawFile(pairs=raw.pairs)
    with tempfile.TemporaryDirectory() as folder:
        for pre in PRETOKENIZERS:
            path = Path(folder) / f"{pre}.gguf"
            raw.set("tokenizer.ggml.pre", STRING, text(pre))
            path.write_bytes(raw.pack())
            tokenizer = Tokenizer.from_vocabulary(vocabulary_of(path), pre)
            plain, _ = theirs(path, records.texts())
            differences, kept = Differences(), records.compared(pre)
            for n, item in enumerate(records.texts()):
                differences.add(item, tokenizer.encode(item, False), plain[n], n not in kept)
            digests[pre] = records.digest(plain[n] for n in kept)
            yield differences.report(f"pre-tokenizer {pre}")


def check_models(models: dict[str, tuple[Ids, Ids]]) -> Iterator[bool]:
    """Both demo models: whether it failed. Fills `models` with llama.cpp's ids."""
    for name in known_models():
        model = resolve_model(name)
        vocabulary = vocabulary_of(model)
        models[name] = theirs(model, records.texts())
        yield compare(name, Tokenizer.from_vocabulary(vocabulary, name), vocabulary, models[name])


def write_record(models: dict[str, tuple[Ids, Ids]], digests: dict[str, str]) -> None:
    """Leave llama.cpp's ids where the tests look for them, a text a line."""
    found = {
        name: {
            "plain": plain,
            "special": {str(n): ids for n, ids in enumerate(special) if ids != plain[n]},
        }
        for name, (plain, special) in models.items()
    }
    record = {
        "source": f"llama.cpp of {llama_cpp.PACKAGE} {llama_cpp.VERSION}",
        "texts_sha256": records.texts_sha256(),
        "models": found,
        "pre": digests,
    }
    lines = json.dumps(record, separators=(",", ":")).replace("],", "],\n").replace("},", "},\n")
    records.RECORD.write_text(lines.replace('",', '",\n') + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare token ids with llama.cpp's.")
    parser.add_argument("--record", action="store_true", help=f"write {records.RECORD.name}")
    given = parser.parse_args()
    models: dict[str, tuple[Ids, Ids]] = {}
    digests: dict[str, str] = {}
    try:
        failed = [*check_models(models), *check_files(), *check_pretokenizers(digests)]
    except CkError as error:
        print(f"check_tokenizers.py: {error}", file=sys.stderr)
        return error.exit_code
    if given.record:
        write_record(models, digests)
    return 5 if any(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
