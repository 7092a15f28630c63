"""`GgufFile`: a GGUF file mapped into memory, its header checked, its tensors as views on the mapping.

Any bytes give a file object or one CkError: no length is believed before it was compared with the file.
Source: the GGUF specification, versions 2 and 3; 3 only adds big-endian files, which ck does not read.
"""

import hashlib
import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError, UsageError
from ck.frontend.gguf.cursor import Cursor, shown
from ck.frontend.gguf.metadata import KEY_VALUE_LIMIT, Metadata
from ck.frontend.gguf.tensors import TENSOR_LIMIT, count_types, read_tensors
from ck.frontend.rope import DIVISORS

MAGIC = b"GGUF"
VERSIONS = (2, 3)
HEADER_BYTES = 24
DEFAULT_ALIGNMENT = 32
ALIGNMENT_RANGE = (8, 1 << 20)
# The least that a pair (length, one byte of key, type, value) and a tensor's entry can take.
PAIR_BYTES, ENTRY_BYTES = 14, 33


class GgufFile:
    """The file at `path`.

    metadata   keys and values; arrays decoded on access
    tensors    by name, in file order
    path       as given

    Raises MalformedError when the file breaks the format, UnsupportedError when it is well formed and stores
    a tensor as a type that ck does not read, UsageError when there is no readable file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._map = _map_file(self.path)
        self._bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        cursor = Cursor(self._map, self.path.name)
        self.metadata, n_tensors = _begin(cursor)
        alignment = _alignment(self.metadata)
        self.tensors = read_tensors(cursor, n_tensors, alignment, len(self._map))
        self._n_header_bytes = cursor.position

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The stored bytes of tensor `name`: a read-only view, which keeps the mapping alive."""
        tensor = self.tensors[name]
        return self._bytes[tensor.offset : tensor.offset + tensor.n_bytes]

    def rows(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """The stored bytes of rows [first, first + count): of a vector, of its elements."""
        row_bytes = self.tensors[name].row_bytes
        return self.raw(name)[first * row_bytes : (first + count) * row_bytes]

    def drop_rows(self, name: str, first: int, count: int) -> None:
        """Let go of the resident pages of these rows; reading them again brings them back."""
        tensor = self.tensors[name]
        self.drop_pages(tensor.offset + first * tensor.row_bytes, count * tensor.row_bytes)

    def header_digest(self) -> str:
        """SHA-256, in hex, of the header's bytes, the file's size, and the one tensor that is not weights."""
        digest = hashlib.sha256(memoryview(self._map)[: self._n_header_bytes])
        digest.update(len(self._map).to_bytes(8, "little"))
        if DIVISORS in self.tensors:
            digest.update(self.raw(DIVISORS).tobytes())
        return digest.hexdigest()

    def drop_pages(self, offset: int, n_bytes: int) -> None:
        """Let go of the resident pages of [offset, offset + n_bytes); reading them again brings them back."""
        start = offset // mmap.PAGESIZE * mmap.PAGESIZE
        if n_bytes > 0:
            self._map.madvise(mmap.MADV_DONTNEED, start, offset + n_bytes - start)

    def drop_header_pages(self) -> None:
        """The same for the header, which is read again when an array of the metadata is asked for."""
        self.drop_pages(0, self._n_header_bytes)

    def close(self) -> None:
        """Forget the tensors. The mapping itself ends with the last view on it."""
        self.tensors = {}
        self._bytes = np.empty(0, np.uint8)


@dataclass(frozen=True)
class Outline:
    """A file's keys, and how many tensors it has of each storage type, whether ck reads that or not."""

    metadata: Metadata
    n_tensors: dict[str, int]


def read_outline(path: str | os.PathLike[str]) -> Outline:
    """What can be said of the file at `path` when ck does not read its tensors.

    Raises MalformedError, UsageError as GgufFile.
    """
    cursor = Cursor(_map_file(Path(path)), Path(path).name)
    metadata, n_tensors = _begin(cursor)
    return Outline(metadata, count_types(cursor, n_tensors))


def _begin(cursor: Cursor) -> tuple[Metadata, int]:
    """The keys, and the number of tensors that are described behind them."""
    _check_start(cursor)
    n_tensors = _count(cursor, "tensors", TENSOR_LIMIT, ENTRY_BYTES)
    n_pairs = _count(cursor, "keys", KEY_VALUE_LIMIT, PAIR_BYTES)
    return Metadata(cursor, n_pairs), n_tensors


def _map_file(path: Path) -> mmap.mmap:
    """A read-only mapping of the regular file at `path`."""
    try:
        # Asked before opening: opening a pipe would wait for its writer.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{shown(str(path))}: a model must be a regular file, found something else")
        if status.st_size < HEADER_BYTES:
            raise MalformedError(
                f"{shown(path.name)}: a GGUF header takes {HEADER_BYTES} bytes, the file has {status.st_size}"
            )
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as problem:
        raise UsageError(f"{shown(str(path))}: the file cannot be read: {problem.strerror}") from None


def _check_start(cursor: Cursor) -> None:
    """Magic and version."""
    magic = cursor.data[cursor.claim(4, "magic") : cursor.position]
    if magic != MAGIC:
        hint = "; it is a git-lfs pointer, fetch the file itself" if magic == b"vers" else ""
        raise cursor.error(f"the first four bytes must be GGUF, found {shown(magic)}{hint}")
    version = cursor.u32("version")
    if version in VERSIONS:
        return
    if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
        raise cursor.error("the file must be little-endian, it is big-endian; convert the model again")
    raise cursor.error(f"the GGUF version must be 2 or 3, found {version}; convert the model again")


def _count(cursor: Cursor, what: str, limit: int, least_bytes: int) -> int:
    count = cursor.u64(f"number of {what}")
    left = cursor.end - cursor.position
    if count > limit:
        raise cursor.error(f"the number of {what} must be at most {limit}, found {count}")
    if count * least_bytes > left:
        raise cursor.error(f"{count} {what} take at least {count * least_bytes} bytes, {left} are left")
    return count


def _alignment(metadata: Metadata) -> int:
    key = "general.alignment"
    if key not in metadata:
        return DEFAULT_ALIGNMENT
    if metadata.type_name(key) != "u32":
        raise metadata.error(f"key {key} must be a u32, found {metadata.type_name(key)}")
    alignment = metadata.integer(key)
    low, high = ALIGNMENT_RANGE
    if not low <= alignment <= high or alignment & (alignment - 1):
        raise metadata.error(f"key {key} must be a power of two from {low} to {high}, found {alignment}")
    return alignment
