"""`GgufParts`: a GGUF file, or all the files that one was split into, with one set of keys and of tensors.

A part is named PREFIX-00002-of-00005.gguf. Its own keys say the same: `split.no` counts from 0, `split.count`
is how many there are, `split.tensors.count` how many tensors they have together. The first part has all other
keys, and may have no tensor. A file with a count of 0 or 1 is whole, whatever its name.
Source: llama.cpp, tools/gguf-split and src/llama-model-loader.cpp.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ck.frontend.gguf.cursor import shown
from ck.frontend.gguf.metadata import Metadata
from ck.frontend.gguf.reader import GgufFile
from ck.frontend.gguf.tensors import GgufTensor

PART_LIMIT = 4096
_NO, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"
_NAME = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf", re.DOTALL)


def part_names(name: str) -> list[str]:
    """The names of all parts of the model that the file `name` is a part of; `name` alone when it is none."""
    found = _NAME.fullmatch(name)
    count = int(found[3]) if found else 0
    if found is None or not 1 <= int(found[2]) <= count <= PART_LIMIT:
        return [name]
    return [found[1] + _suffix(number, count) for number in range(count)]


def _suffix(number: int, count: int) -> str:
    return f"-{number + 1:05d}-of-{count:05d}.gguf"


class GgufParts:
    """The GGUF file at `path`; when it is a part of a model, together with the others, which lie beside it.

    parts      the files, in order; one for a file that is whole
    metadata   of the first part
    tensors    of all parts, by name, in order
    path       of the first part

    Raises as GgufFile, and MalformedError when a part, which it names, is not there or not the right one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        named = GgufFile(path)
        self.parts = _all_parts(named)
        self.metadata: Metadata = self.parts[0].metadata
        self.path = self.parts[0].path
        self._file_of = _owners(self.parts)
        self.tensors: Mapping[str, GgufTensor] = {
            name: file.tensors[name] for name, file in self._file_of.items()
        }
        if len(self.parts) > 1:
            _check_total(self.parts, len(self.tensors))

    @property
    def stem(self) -> str:
        """The file's name without its ending, of a part without its number."""
        found = _NAME.fullmatch(self.path.name)
        return self.path.stem if len(self.parts) == 1 or found is None else found[1]

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The stored bytes of tensor `name`: a read-only view, which keeps its file's mapping alive."""
        return self._file_of[name].raw(name)

    def rows(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """The stored bytes of rows [first, first + count): of a vector, of its elements."""
        return self._file_of[name].rows(name, first, count)

    def drop_rows(self, name: str, first: int, count: int) -> None:
        """Let go of the resident pages of these rows; reading them again brings them back."""
        self._file_of[name].drop_rows(name, first, count)

    def drop_header_pages(self) -> None:
        """The same for the headers."""
        for file in self.parts:
            file.drop_header_pages()

    def header_digest(self) -> str:
        """That of the file; of several, SHA-256 in hex over all of theirs."""
        digests = [file.header_digest() for file in self.parts]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _all_parts(named: GgufFile) -> list[GgufFile]:
    """`named` alone, or all parts of the model that it is a part of."""
    number, count = _place(named)
    if count < 2:
        return [named]
    names = part_names(named.path.name)
    if len(names) != count or names[number] != named.path.name:
        raise named.metadata.error(
            f"the name must end in {_suffix(number, count)}, as {_NO} {number} and {_COUNT} {count} say, "
            "it does not; rename it or download it again"
        )
    return [
        named if other == number else _part(named, named.path.with_name(name), (other, count))
        for other, name in enumerate(names)
    ]


def _place(file: GgufFile) -> tuple[int, int]:
    """Which part a file says it is, and of how many: (0, 1) for one that is whole."""
    metadata = file.metadata
    count = metadata.integer(_COUNT, 0)
    if count in (0, 1):
        return 0, 1
    if not 2 <= count <= PART_LIMIT:
        raise metadata.error(f"key {_COUNT} must be from 0 to {PART_LIMIT}, found {count}")
    number = metadata.integer(_NO)
    if not 0 <= number < count:
        raise metadata.error(f"key {_NO} must be below the {count} parts, found {number}")
    return number, count


def _part(named: GgufFile, path: Path, wanted: tuple[int, int]) -> GgufFile:
    """The part at `path`, whose place is to be `wanted`, of the model that `named` is another part of."""
    if not path.exists():
        raise named.metadata.error(
            f"its part {shown(path.name)} must lie beside it, it is not there; download it too"
        )
    file = GgufFile(path)
    number, count = _place(file)
    if (number, count) != wanted:
        raise file.metadata.error(
            f"{_NO} must be {wanted[0]} and {_COUNT} {wanted[1]}, as the name says, found {number} and "
            f"{count}; download it again"
        )
    return file


def _owners(parts: list[GgufFile]) -> dict[str, GgufFile]:
    """The file of each tensor."""
    owners: dict[str, GgufFile] = {}
    for file in parts:
        for name in file.tensors:
            if name in owners:
                other = shown(owners[name].path.name)
                raise file.metadata.error(f"tensor {shown(name)} must be in one part, {other} has it too")
            owners[name] = file
    return owners


def _check_total(parts: list[GgufFile], n_tensors: int) -> None:
    """Every part names the same number of tensors, which is how many all have together.

    Raises MalformedError, which names the part that is another model's where that is to be seen.
    """
    first = parts[0].metadata.integer(_TENSORS)
    arch = "general.architecture"
    for file in parts[1:]:
        found = file.metadata.integer(_TENSORS)
        if found != first:
            raise file.metadata.error(
                f"must be a part of the same model as {shown(parts[0].path.name)}, key {_TENSORS} is {found} "
                f"here and {first} there; download both again"
            )
        if arch in file.metadata and file.metadata.text(arch) != parts[0].metadata.text(arch, ""):
            raise file.metadata.error(
                f"must be a part of the same model as {shown(parts[0].path.name)}, its {arch} is another"
            )
    if n_tensors != first:
        raise parts[0].metadata.error(
            f"the {len(parts)} parts must have {first} tensors, as key {_TENSORS} says, they have "
            f"{n_tensors}; one is another model's, download them again"
        )
