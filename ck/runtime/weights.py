"""A program's weights in memory: packed from the model file into one region, its pages dropped on the way."""

import ctypes
import mmap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.dtypes import BY_NAME, PANEL_ROWS
from ck.frontend.gguf import GgufFile, GgufTensor
from ck.ir.rt.slots import WeightSlot
from ck.runtime.library import library

ALIGN = 64
# Rows dequantised at a time when a weight is stored in another type than the file's: a multiple of 16.
ROWS_AT_A_TIME = 1024


def _address(array: NDArray[Any]) -> int:
    return array.ctypes.data


class Weights:
    """The packed weights of a program: `pointers[i]` is where slot i begins."""

    def __init__(
        self,
        file: GgufFile,
        slots: list[WeightSlot],
        constants: Mapping[str, NDArray[np.float32]],
        threads: int,
    ) -> None:
        sizes = [-(-slot.n_bytes // ALIGN) * ALIGN for slot in slots]
        self.n_bytes = sum(sizes)
        # Anonymous pages: aligned, zero, and gone with the object. Kernels may prefetch past the end.
        self.region = np.frombuffer(mmap.mmap(-1, self.n_bytes + ALIGN), np.uint8)
        offsets = np.cumsum([0, *sizes[:-1]])
        base = _address(self.region)
        self.pointers = (ctypes.c_void_p * max(1, len(slots)))(*(base + int(offset) for offset in offsets))
        for slot, offset in zip(slots, offsets, strict=True):
            if slot.name in constants:
                self._copy(int(offset), constants[slot.name])
        wanted = [
            (slot, int(at)) for slot, at in zip(slots, offsets, strict=True) if slot.name not in constants
        ]
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(self._load, file, slot, at) for slot, at in wanted]:
                done.result()

    def _copy(self, offset: int, values: NDArray[np.float32]) -> None:
        raw = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)
        self.region[offset : offset + len(raw)] = raw

    def _load(self, file: GgufFile, slot: WeightSlot, offset: int) -> None:
        tensor = file.tensors[slot.name]
        raw = file.raw(slot.name)
        if slot.storage == "vector":
            self.region[offset : offset + len(raw)] = raw
        elif slot.storage == tensor.storage.name:
            n_out, n_in = slot.shape
            pack = getattr(library(), f"ck_pack_{slot.storage}")
            pack(_address(self.region) + offset, _address(raw), n_out, n_in, 0, 1)
        else:
            self._convert(tensor, raw, slot, offset)
        file.drop_pages(tensor.offset, tensor.n_bytes)

    def _convert(self, tensor: GgufTensor, raw: NDArray[np.uint8], slot: WeightSlot, offset: int) -> None:
        """Dequantise a stored matrix and pack it as `slot.storage`, some rows at a time."""
        n_out, n_in = slot.shape
        row_bytes = tensor.storage.row_bytes(n_in)
        panel_bytes = BY_NAME[slot.storage].matrix_packed_bytes(PANEL_ROWS, n_in)
        pack = getattr(library(), f"ck_pack_{slot.storage}")
        values = np.empty((min(n_out, ROWS_AT_A_TIME), n_in), np.float32)
        for first in range(0, n_out, ROWS_AT_A_TIME):
            rows = min(ROWS_AT_A_TIME, n_out - first)
            dequantize(tensor.storage.name, raw[first * row_bytes :], values[:rows])
            at = offset + first // PANEL_ROWS * panel_bytes
            pack(_address(self.region) + at, _address(values), rows, n_in, 0, 1)


def dequantize(storage: str, raw: NDArray[np.uint8], into: NDArray[np.float32]) -> None:
    """Fill `into` with the values of the file blocks at the start of `raw`."""
    getattr(library(), f"ck_dequantize_{storage}")(_address(into), _address(raw), into.size)


def read_tensor(file: GgufFile, name: str) -> NDArray[np.float32]:
    """Tensor `name`, dequantised: its shape, f32, a fresh copy. Raises KeyError when the file has none."""
    tensor = file.tensors[name]
    values = np.empty(tensor.shape, np.float32)
    dequantize(tensor.storage.name, file.raw(name), values)
    return values
