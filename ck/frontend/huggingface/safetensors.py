"""`SafetensorsFile`: a safetensors file mapped into memory, its header checked, its tensors as views.

The package checks the header, and this module what it reads of it again: a view never leaves the file.
Source: the safetensors README, section Format.
"""

import hashlib
import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ck.errors import MalformedError, UnsupportedError, UsageError
from ck.frontend.gguf.cursor import HEADER_LIMIT_BYTES, shown
from ck.frontend.huggingface.config_files import named

# The format's names of the types that ck reads -> those of ck.dtypes.
DTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_N_BYTES = {"f32": 4, "f16": 2, "bf16": 2}


@dataclass(frozen=True)
class FloatTensor:
    """A tensor of a file. `dtype` is f32, f16 or bf16; `offset` counts from the file's start."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * _N_BYTES[self.dtype]


class SafetensorsFile:
    """The file at `path`. Raises MalformedError when it breaks the format, UsageError when none is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = _map_file(path)
        self._bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        end = 8 + int.from_bytes(self._map[:8], "little")
        if end > min(len(self._map), HEADER_LIMIT_BYTES):
            limit = min(len(self._map), HEADER_LIMIT_BYTES)
            raise MalformedError(f"{named(path)}: the header must end by byte {limit}, it ends at {end}")
        try:
            with safe_open(path, "np"):
                pass
        except (SafetensorError, OSError) as problem:
            raise MalformedError(f"{named(path)}: must be safetensors: {shown(str(problem))}") from None
        self._header: Mapping[str, Any] = json.loads(self._map[8:end])
        self._end = end

    @property
    def names(self) -> list[str]:
        """Of all tensors."""
        return [name for name in self._header if name != "__metadata__"]

    def tensor(self, name: str) -> FloatTensor:
        """Where tensor `name`, one of `names`, lies.

        Raises UnsupportedError for a type that ck does not read.
        """
        entry = self._header[name]
        what = f"{named(self.path)}: tensor {shown(name)}"
        if entry["dtype"] not in DTYPES:
            known = ", ".join(DTYPES)
            raise UnsupportedError(f"{what} must be {known}, found {shown(str(entry['dtype']))}")
        start, stop = entry["data_offsets"]
        tensor = FloatTensor(DTYPES[entry["dtype"]], tuple(entry["shape"]), self._end + start)
        if min(tensor.shape, default=1) < 1:
            raise MalformedError(f"{what} must have elements, found shape {list(tensor.shape)}")
        if not 0 <= start <= stop <= len(self._map) - self._end or tensor.n_bytes != stop - start:
            raise MalformedError(f"{what} must take {tensor.n_bytes} bytes of the file, found {stop - start}")
        return tensor

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The stored bytes of a tensor: a read-only view, which keeps the mapping alive."""
        tensor = self.tensor(name)
        return self._bytes[tensor.offset : tensor.offset + tensor.n_bytes]

    def drop_pages(self, offset: int, n_bytes: int) -> None:
        """Let go of the resident pages of [offset, offset + n_bytes); reading them again brings them back."""
        start = offset // mmap.PAGESIZE * mmap.PAGESIZE
        if n_bytes > 0:
            self._map.madvise(mmap.MADV_DONTNEED, start, offset + n_bytes - start)

    def drop_header_pages(self) -> None:
        """The same for the header, of which ck keeps what it needs."""
        self.drop_pages(0, self._end)

    def header_digest(self) -> str:
        """SHA-256, in hex, of the header's bytes."""
        return hashlib.sha256(memoryview(self._map)[: self._end]).hexdigest()


def _map_file(path: Path) -> mmap.mmap:
    """A read-only mapping of a regular file."""
    try:
        if not path.is_file():
            raise UsageError(f"{named(path)}: must be a regular file, there is none")
        with path.open("rb") as file:
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes < 8:
                raise MalformedError(f"{named(path)}: a safetensors file takes 8 bytes, found {n_bytes}")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as problem:
        raise UsageError(f"{named(path)}: the file cannot be read: {problem.strerror}") from None
