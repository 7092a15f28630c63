"""Cleaning of training text: files and rows repaired, and characters spelled in ASCII.

Repairs: the byte order mark and NUL characters go, CR LF becomes LF. Spelling: typographic quotes, dashes,
arrows, box drawing and the like are spelled as `spellings.toml` says; a letter with marks loses them, and
what has a compatibility form takes it (Unicode NFKD); invisible characters go; each one left becomes `?`.
"""

import json
import os
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ck.errors import UsageError
from ck.train.corpus import find_files, is_jsonl, parse_row, read_lines
from ck.train.files import replacing

_TABLE: dict[str, str] = tomllib.loads(Path(__file__).with_name("spellings.toml").read_text("utf-8"))
# A character and how it is spelled.
SPELLINGS = {char: spelling for spelling, chars in _TABLE.items() for char in chars}
UNKNOWN = "?"

_OTHER = re.compile(r"[^\t\n\r -~]")
_LINE_END = re.compile(r"\r+\n")


def clean_to_ascii(text: str) -> str:
    """`text` repaired and spelled in printable ASCII, tab, LF and CR. Cleaning twice changes nothing more."""
    return _repair(_OTHER.sub(lambda found: spell(found.group()), text))


def clean_text(text: str) -> str:
    """`text` repaired, its characters kept."""
    return _repair(text).lstrip("\ufeff")


def _repair(text: str) -> str:
    # CR LF last, so that what the other steps bring together is seen.
    return _LINE_END.sub("\n", text.replace("\0", ""))


def spell(char: str) -> str:
    """How `clean_to_ascii` spells one character that is not of the alphabet; "" when it goes."""
    if char in SPELLINGS:
        return SPELLINGS[char]
    parts = unicodedata.normalize("NFKD", char)
    if parts != char:
        return "".join(part if not _OTHER.match(part) else spell(part) for part in parts)
    # Marks, controls and format characters are not seen; surrogates and unassigned ones are no text.
    invisible = unicodedata.category(char) in ("Mn", "Me", "Cc", "Cf", "Cs", "Cn")
    return "" if invisible else UNKNOWN


@dataclass(frozen=True)
class Cleaned:
    """What cleaning changed.

    files        the copies written, in reading order
    characters   how often each character was spelled in ASCII
    """

    files: list[Path]
    n_line_ends: int
    n_nul: int
    n_byte_order_marks: int
    n_empty_rows: int
    characters: Mapping[str, int]


class _Cleaner:
    """Cleans line by line and counts."""

    def __init__(self, to_ascii: bool, field: str) -> None:
        self._clean = clean_to_ascii if to_ascii else clean_text
        self._to_ascii = to_ascii
        self._field = field
        self.counts = Counter[str]()
        self.characters = Counter[str]()

    def row(self, line: str, path: Path, number: int) -> str:
        """A cleaned row of a JSONL file with its line end; "" when no text is left of it."""
        # What is no JSON is repaired first; it counts only inside the text.
        line = clean_text(line)
        if not line.strip():
            return ""
        row = parse_row(line, path, number, self._field)
        row[self._field] = self.text(row[self._field])
        self.counts["row"] += not row[self._field]
        return json.dumps(row, ensure_ascii=self._to_ascii) + "\n" if row[self._field] else ""

    def text(self, text: str) -> str:
        """Cleaned text: a line of a file, or all of a row."""
        self.counts["nul"] += text.count("\0")
        self.counts["line"] += text.count("\r\n")
        bare = text.replace("\0", "").lstrip("\ufeff")
        self.counts["mark"] += len(text.replace("\0", "")) - len(bare)
        if self._to_ascii:
            self.characters.update(_OTHER.findall(bare))
        return self._clean(bare)


def clean_files(paths: Sequence[Path], out: Path, to_ascii: bool = True, field: str = "text") -> Cleaned:
    """Write a cleaned copy of each file of `paths` under the directory `out`, in ASCII or only repaired.

    A file goes to out/<name>, what is in a directory to out/<its name>/<path inside>. Raises as
    `read_documents` does for what cannot be cleaned, UsageError when two files would get one copy or `out`
    lies within what is read.
    """
    cleaner = _Cleaner(to_ascii, field)
    targets = _targets(paths, out)
    for target, source in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            for number, line in read_lines(source, strict=False):
                clean = cleaner.row(line, source, number) if is_jsonl(source) else cleaner.text(line)
                file.write(clean.encode())
    counts = cleaner.counts
    return Cleaned(
        list(targets), counts["line"], counts["nul"], counts["mark"], counts["row"], cleaner.characters
    )


def _targets(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """The copy and its source, in reading order."""
    targets = dict[Path, Path]()
    for path in paths:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{out}: must lie outside of {path}, which is cleaned; name another directory")
        for source in find_files([path]):
            target = out / os.path.basename(os.path.abspath(path)) / source.relative_to(path)
            if target.resolve() == source.resolve():
                raise UsageError(f"{out}: must not be where {source} lies; name another directory")
            if target in targets:
                raise UsageError(
                    f"{target}: must be the copy of one file, is that of {targets[target]} and {source};"
                    " clean them into different directories"
                )
            targets[target] = source
    return targets
