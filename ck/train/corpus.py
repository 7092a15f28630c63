"""Training text: which files are read, what a document is, and what a file may not hold.

A text file is one document, or one a line; a row of a JSONL file is one document, its field "text". Text is
UTF-8 without a byte order mark, NUL bytes or CR LF line ends: a model would learn all three.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ck.errors import MalformedError, UnsupportedError, UsageError
from ck.frontend.gguf.cursor import shown

Split = Literal["file", "line"]

# A folder with this file in it is a run.
RUN_RECORD = "run.json"

# What a directory is searched for; a file that is named is read whatever its name ends in.
SUFFIXES = {
    *(".txt", ".text", ".md", ".rst", ".tex", ".csv", ".jsonl", ".json", ".toml", ".yaml", ".yml", ".cfg"),
    *(
        ".ini",
        ".html",
        ".xml",
        ".svg",
        ".css",
        ".js",
        ".ts",
        ".py",
        ".pyi",
        ".c",
        ".h",
        ".inc",
        ".cc",
        ".cpp",
    ),
    *(".hpp", ".s", ".sh", ".cmake", ".mlir", ".rs", ".go", ".java"),
}

_BOM = b"\xef\xbb\xbf"
_CLEAN = "run: ck tokenizer clean"
_NOT_ASCII = re.compile(r"[^\t\n\r -~]")


@dataclass(frozen=True)
class Document:
    """One text, and where it starts: `line` counts from 1."""

    text: str
    path: Path
    line: int

    def line_of(self, offset: int) -> int:
        """The line of the file that character `offset` of the text stands in."""
        # A row of JSONL is one line, whatever its text.
        return self.line if is_jsonl(self.path) else self.line + self.text.count("\n", 0, offset)


@dataclass(frozen=True)
class Corpus:
    """The documents of files and directories, read anew each time they are iterated.

    split       a text file is one document ("file"), or each line with a word in it is ("line")
    field       the field of a JSONL row that holds the text
    ascii_only  whether text must be printable ASCII, tab, LF and CR
    """

    paths: tuple[Path, ...]
    split: Split = "file"
    field: str = "text"
    ascii_only: bool = False

    def __iter__(self) -> Iterator[Document]:
        """The documents, in order. Raises as `read_documents` does."""
        return read_documents(self.paths, self.split, self.field, self.ascii_only)


@dataclass(frozen=True)
class CorpusFacts:
    """What one reading of a corpus found; the hash is over the texts in order, not over names or places."""

    n_documents: int
    n_bytes: int
    sha256: str


class CorpusDigest:
    """Gathers the facts of documents as they pass."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._n_documents = self._n_bytes = 0

    def add(self, document: Document) -> None:
        """Count one more document."""
        data = document.text.encode()
        # The length first: the same bytes, cut elsewhere, are other documents.
        self._hash.update(len(data).to_bytes(8, "little") + data)
        self._n_documents += 1
        self._n_bytes += len(data)

    def facts(self) -> CorpusFacts:
        """The facts of the documents so far."""
        return CorpusFacts(self._n_documents, self._n_bytes, self._hash.hexdigest())


def read_documents(
    paths: Sequence[Path], split: Split = "file", field: str = "text", ascii_only: bool = False
) -> Iterator[Document]:
    """The documents of `paths`, files and directories, in order; directories by name, each file once.

    Empty files inside directories, blank lines and blank rows are passed over. Raises UsageError when no path
    is given or one is missing, MalformedError naming file and line for text that must not be trained on and
    for a data set without any, UnsupportedError for rows of chat messages.
    """
    found = False
    for path in find_files(paths):
        empty = True
        for document in _read_file(path, split, field):
            if ascii_only:
                check_ascii(document)
            empty = False
            yield document
        if empty and path in paths:
            raise MalformedError(f"{path}: must hold text, found none")
        found = found or not empty
    if not found:
        raise MalformedError(f"{', '.join(map(str, paths))}: must hold text, found only empty files")


def find_files(paths: Sequence[Path], say: Callable[[str], None] | None = None) -> list[Path]:
    """The files of `paths` in reading order, without repetition.

    Inside a directory: those whose suffix is in SUFFIXES, sorted, hidden ones left out, links to directories
    not followed. Folders in it that hold a run.json are runs, which ck wrote: they are left out too, and
    `say` is told each. Raises UsageError and MalformedError as `read_documents`.
    """
    if not paths:
        raise UsageError("data: at least one file or directory is required, none was given")
    found = dict[Path, Path]()
    for path in paths:
        if path.is_dir():
            inside = _search(path, say)
            if not inside:
                kinds = "*.txt, *.md, *.jsonl, *.py and the like"
                raise MalformedError(f"{path}: must hold text files, {kinds}, found none; name the files")
        elif path.is_file():
            inside = [path]
        else:
            what = "something else" if path.exists() else "nothing there"
            raise UsageError(f"{path}: must be a file or a directory, found {what}")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _search(directory: Path, say: Callable[[str], None] | None) -> list[Path]:
    files = list[Path]()
    for folder, folders, names in os.walk(directory, onerror=_stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if Path(folder, name, RUN_RECORD).is_file()]:
            folders.remove(name)
            if say:
                say(f"{Path(folder, name)}: left out of the data, it holds {RUN_RECORD} and so is a run")
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    files = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    return sorted(files, key=lambda file: file.relative_to(directory).parts)


def _stop(error: OSError) -> None:
    raise error


def is_jsonl(path: Path) -> bool:
    """Whether a file has rows of JSON rather than plain text, which its name says."""
    return path.suffix.lower() == ".jsonl"


def _read_file(path: Path, split: Split, field: str) -> Iterator[Document]:
    lines = read_lines(path)
    if is_jsonl(path):
        for number, line in lines:
            if line.strip():
                yield Document(_row_text(line, path, number, field), path, number)
    elif split == "line":
        for number, line in lines:
            if line.strip():
                yield Document(line.removesuffix("\n"), path, number)
    else:
        text = "".join(line for _, line in lines)
        if text:
            yield Document(text, path, 1)


def read_lines(path: Path, strict: bool = True) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends. Raises MalformedError as `read_documents`.

    Without `strict` only what is no UTF-8 is refused.
    """
    start = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if strict:
                _check_bytes(raw, path, number)
            try:
                yield number, raw.decode()
            except UnicodeDecodeError as problem:
                at = problem.start
                raise MalformedError(
                    f"{path}:{number}: must be UTF-8, byte {start + at} of the file (0x{raw[at]:02x}) is not;"
                    " convert the file"
                ) from None
            start += len(raw)


def _check_bytes(raw: bytes, path: Path, number: int) -> None:
    if number == 1 and raw.startswith(_BOM):
        raise MalformedError(f"{path}:1: must start with text, found a byte order mark (BOM); {_CLEAN}")
    if b"\0" in raw:
        at = f"byte {raw.index(bytes(1))} of the line"
        raise MalformedError(f"{path}:{number}: must be text, found a NUL byte at {at}; {_CLEAN}")
    if raw.endswith(b"\r\n"):
        raise MalformedError(f"{path}:{number}: lines must end in LF, found CR LF; {_CLEAN}")


def parse_row(line: str, path: Path, number: int, field: str) -> dict[str, Any]:
    """The row of a JSONL file that `line` is, whose `field` is a string that can be UTF-8.

    Raises MalformedError, UnsupportedError as `read_documents`.
    """
    where = f"{path}:{number}"
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError) as problem:
        why = "it nests too deep or holds too long a number"
        if isinstance(problem, json.JSONDecodeError):
            why = f"{problem.msg.lower()} at column {problem.colno}"
        raise MalformedError(f"{where}: must be a JSON object, found invalid JSON: {why}") from None
    if not isinstance(row, dict):
        raise MalformedError(f"{where}: must be a JSON object, found {_kind(row)}")
    fields = cast(dict[str, Any], row)
    if field not in fields:
        if "messages" in fields:
            raise UnsupportedError(
                f"{where}: must have a field {field}, found chat messages, which ck does not train on;"
                f" write each conversation as one string in field {field}"
            )
        names = ", ".join(map(shown, fields)) or "none"
        raise MalformedError(
            f"{where}: must have a field {field}, found {names}; name it with --field, for ck"
            " train with --set data.field=NAME"
        )
    text = fields[field]
    if not isinstance(text, str):
        raise MalformedError(f"{where}: field {field} must be a string, found {_kind(text)}")
    if surrogate := re.search("[\ud800-\udfff]", text):
        at = f"character {surrogate.start()}"
        raise MalformedError(f"{where}: field {field} must be Unicode, {at} is half of a surrogate pair")
    return fields


def _row_text(line: str, path: Path, number: int, field: str) -> str:
    text: str = parse_row(line, path, number, field)[field]
    where = f"{path}:{number}: field {field}"
    if not text:
        raise MalformedError(f"{where} must hold text, found an empty string; {_CLEAN}")
    if text.startswith("\ufeff"):
        raise MalformedError(f"{where} must start with text, found a byte order mark (BOM); {_CLEAN}")
    if "\0" in text:
        raise MalformedError(f"{where} must be text, found NUL at character {text.index(chr(0))}; {_CLEAN}")
    if "\r\n" in text:
        raise MalformedError(f"{where} must have lines that end in LF, found CR LF; {_CLEAN}")
    return text


def _kind(value: object) -> str:
    names = {"dict": "an object", "list": "an array", "str": "a string", "bool": "a bool", "NoneType": "null"}
    return names.get(type(value).__name__, "a number")


def check_ascii(document: Document) -> None:
    """Raises MalformedError naming file, line and character when a character is not of `ascii_bpe`'s 98."""
    found = _NOT_ASCII.search(document.text)
    if found:
        char = found.group()
        name = f"U+{ord(char):04X}" + (f" ({char})" if char.isprintable() else "")
        raise MalformedError(
            f"{document.path}:{document.line_of(found.start())}: must be printable ASCII, tab, LF and CR,"
            f" found {name}; {_CLEAN}, or train a tokenizer of kind bpe"
        )
