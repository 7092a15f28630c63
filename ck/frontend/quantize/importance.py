"""`Importance`: how much an error in each column of each matrix weighs, as llama.cpp's imatrix files have it.

A GGUF file has for each matrix M two tensors of f32: `M.in_sum2`, sums over tokens of the squares of what
enters the matrix, and `M.counts`, how many tokens. The older format has means times a number of calls:

    i32 entries;  of each  i32 length, name, i32 calls, i32 values, f32 values;
    then, if at all,  i32 chunks, i32 length, name of the text

Source: llama.cpp, common/imatrix-loader.cpp and tools/imatrix.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError, UsageError
from ck.frontend.gguf import GgufFile
from ck.frontend.gguf.cursor import shown

SUMS, COUNTS = ".in_sum2", ".counts"
DATASETS, CHUNK_COUNT, CHUNK_SIZE = "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"
# Of the older format: far above any model.
_ENTRY_LIMIT, _NAME_LIMIT, _VALUE_LIMIT = 1 << 16, 1 << 10, 1 << 24
_LIMIT_BYTES = 1 << 29
_I32 = struct.Struct("<i")


@dataclass(frozen=True)
class Importance:
    """What a file says: `weights` [K] by matrix, the texts they are of, and how many chunks of them."""

    path: str
    weights: Mapping[str, NDArray[np.float32]]
    datasets: tuple[str, ...]
    n_chunks: int


def read_importance(path: str) -> Importance:
    """The importance matrix in a file of either format.

    Raises UsageError when there is no readable file, MalformedError when it breaks its format, holds nothing,
    or a number that is not finite.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(4)
            found = _read_gguf(path) if start == b"GGUF" else _read_older(path, start + _rest_of(path, file))
    except OSError as problem:
        raise UsageError(f"{shown(path)}: the file cannot be read: {problem.strerror}") from None
    if not found.weights:
        raise MalformedError(f"{shown(path)}: must have an entry for each matrix, found none")
    for name, weights in found.weights.items():
        if not np.isfinite(weights).all():
            raise MalformedError(f"{shown(path)}: {shown(name)} must hold finite numbers only, found others")
    return found


def _rest_of(path: str, file: BinaryIO) -> bytes:
    data = file.read(_LIMIT_BYTES + 1)
    if len(data) > _LIMIT_BYTES:
        raise MalformedError(
            f"{shown(path)}: an importance matrix has at most {_LIMIT_BYTES >> 20} MiB, found more"
        )
    return data


def _read_gguf(path: str) -> Importance:
    file = GgufFile(path)
    names = [name.removesuffix(SUMS) for name in file.tensors if name.endswith(SUMS)]
    n_counts = sum(name.endswith(COUNTS) for name in file.tensors)
    if n_counts != len(names) or any(name + COUNTS not in file.tensors for name in names):
        raise file.metadata.error("every matrix must have sums and counts, found one without the other")
    weights = {name: _mean(file, name) for name in sorted(names)}
    n_chunks = file.metadata.integer(CHUNK_COUNT)
    file.metadata.integer(CHUNK_SIZE)
    return Importance(path, weights, tuple(file.metadata.strings(DATASETS)), n_chunks)


def _mean(file: GgufFile, name: str) -> NDArray[np.float32]:
    """Sums over counts; 1 where nothing was counted."""
    for part in (SUMS, COUNTS):
        found = file.tensors[name + part].storage.name
        if found != "f32":
            raise file.metadata.error(f"tensor {shown(name + part)} must be stored as f32, found {found}")
    sums, counts = (file.raw(name + part).view(np.float32) for part in (SUMS, COUNTS))
    if len(sums) % len(counts) or not np.isfinite(counts).all():
        raise file.metadata.error(
            f"tensor {shown(name + SUMS)} must have equal rows of finite counts, found {len(sums)} numbers "
            f"for {len(counts)}"
        )
    counts = np.repeat(np.rint(counts), len(sums) // len(counts))
    # What is not finite is said of the whole file.
    with np.errstate(all="ignore"):
        return np.divide(sums, counts, out=np.ones_like(sums), where=counts > 0)


class _Older:
    """Reads `data` field by field."""

    def __init__(self, path: str, data: bytes) -> None:
        self._path, self._data, self._position = path, data, 0

    def error(self, text: str) -> MalformedError:
        return MalformedError(f"{shown(self._path)}: {text}, as an importance matrix has it")

    @property
    def is_over(self) -> bool:
        return self._position >= len(self._data)

    def take(self, n_bytes: int, what: str) -> bytes:
        start, self._position = self._position, self._position + n_bytes
        if self._position > len(self._data):
            raise self.error(f"{what} must lie within the file, {len(self._data) - start} bytes are left")
        return self._data[start : self._position]

    def number(self, what: str, low: int, high: int) -> int:
        value: int = _I32.unpack(self.take(_I32.size, what))[0]
        if not low <= value <= high:
            raise self.error(f"{what} must be {low} to {high}, found {value}")
        return value

    def text(self, what: str) -> str:
        n_bytes = self.number(f"the length of {what}", 0, _NAME_LIMIT)
        return self.take(n_bytes, what).decode(errors="replace")


def _read_older(path: str, data: bytes) -> Importance:
    of, weights = _Older(path, data), dict[str, NDArray[np.float32]]()
    for _ in range(of.number("the number of entries", 1, _ENTRY_LIMIT)):
        name = of.text("an entry's name")
        calls = of.number("the number of calls", 0, (1 << 31) - 1)
        n_values = of.number("the number of values", 1, _VALUE_LIMIT)
        values = np.frombuffer(of.take(4 * n_values, "values"), "<f4").astype(np.float32)
        with np.errstate(all="ignore"):
            weights[name] = values / np.float32(calls) if calls else values
    if of.is_over:
        return Importance(path, weights, (), 0)
    n_chunks = of.number("the number of chunks", 0, (1 << 31) - 1)
    dataset = "" if of.is_over else of.text("the name of the text")
    return Importance(path, weights, (dataset,) if dataset else (), n_chunks)
