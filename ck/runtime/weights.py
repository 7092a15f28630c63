"""A program's weights in memory: packed from the model file into one region, its pages dropped on the way."""

import ctypes
import mmap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.dtypes import BY_NAME, PANEL_ROWS
from ck.frontend.model_file import ModelFile
from ck.ir.rt.slots import WeightSlot
from ck.runtime.library import library

ALIGN = 64
# Rows packed at a time, a multiple of 16: threads share a large matrix, and its pages go while it is packed.
ROWS_AT_A_TIME = 4096


def _address(array: NDArray[Any]) -> int:
    return array.ctypes.data


class Weights:
    """The packed weights of a program: `pointers[i]` is where slot i begins."""

    def __init__(
        self,
        file: ModelFile,
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
        pieces = [
            (slot, int(offset), first)
            for slot, offset in zip(slots, offsets, strict=True)
            if slot.name not in constants
            for first in range(0, slot.shape[0] if len(slot.shape) > 1 else 1, ROWS_AT_A_TIME)
        ]
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(self._load, file, *piece) for piece in pieces]:
                done.result()

    def _copy(self, offset: int, values: NDArray[Any]) -> None:
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
        self.region[offset : offset + len(raw)] = raw

    def _load(self, file: ModelFile, slot: WeightSlot, offset: int, first: int) -> None:
        """Pack the rows of a slot from `first` on, a piece of them, and let go of the file's pages."""
        tensor = file.tensors[slot.name]
        if slot.storage == "vector":
            self._copy(offset, file.rows(slot.name, 0, tensor.shape[0]))
            return
        n_out, n_in = slot.shape
        rows = min(ROWS_AT_A_TIME, n_out - first)
        source = file.rows(slot.name, first, rows)
        values: NDArray[Any] = source
        if slot.storage != tensor.storage.name:
            values = np.empty((rows, n_in), np.float32)
            dequantize(tensor.storage.name, source, values)
        panel_bytes = BY_NAME[slot.storage].matrix_packed_bytes(PANEL_ROWS, n_in)
        into = _address(self.region) + offset + first // PANEL_ROWS * panel_bytes
        getattr(library(), f"ck_pack_{slot.storage}")(into, _address(values), rows, n_in, 0, 1)
        file.drop_rows(slot.name, first, rows)


def dequantize(storage: str, raw: NDArray[np.uint8], into: NDArray[np.float32]) -> None:
    """Fill `into` with the values of the file blocks at the start of `raw`."""
    getattr(library(), f"ck_dequantize_{storage}")(_address(into), _address(raw), into.size)


def read_tensor(file: ModelFile, name: str) -> NDArray[np.float32]:
    """Tensor `name`, dequantised: its shape, f32, a fresh copy. Raises KeyError when the file has none."""
    tensor = file.tensors[name]
    values = np.empty(tensor.shape, np.float32)
    dequantize(tensor.storage.name, file.rows(name, 0, tensor.shape[0]), values)
    return values
