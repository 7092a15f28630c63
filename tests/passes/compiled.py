"""A scheduled module of any entries as a loaded program: emitted, built, its weights packed."""

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from ck.backend.c.build import build_object
from ck.backend.c.program import emit_program
from ck.backend.context import context_type
from ck.ir.rt.manifest import manifest_of
from ck.ir.types import WeightType
from ck.runtime.library import HEADER, library
from tests.ops.case import Operand
from tests.ops.kernel_calls import pack


class Compiled:
    """Entries that take rows, n and pos, and return rows."""

    def __init__(self, module: ModuleOp, weights: Mapping[str, Operand], threads: int, folder: Path) -> None:
        self.manifest = manifest_of(module)
        source, target = folder / "program.c", folder / "program.so"
        source.write_text(emit_program(module))
        build_object(source, target, HEADER.parent)
        self.runtime = library()
        self.program = ctypes.CDLL(str(target))
        self.context = context_type(self.manifest)()
        # Memory starts as NaN, so what reads a byte that nobody wrote shows it.
        self.arena = _aligned(max(64, self.manifest.arena_bytes))
        self.caches = [_aligned(slot.n_bytes) for slot in self.manifest.caches]
        self.weights = [self._stored(weights[slot.name], slot) for slot in self.manifest.weights]
        self.pool = self.runtime.ck_pool_create(threads)
        self.context.pool, self.context.n_threads = self.pool, threads
        self.context.arena = self.arena.ctypes.data
        self._pointers = [_pointers(self.weights), _pointers(self.caches)]
        self.context.weights, self.context.caches = map(ctypes.addressof, self._pointers)

    @staticmethod
    def _stored(operand: Operand, slot) -> np.ndarray:
        if slot.storage == "vector":
            return operand.stored
        return pack(WeightType.of(slot.shape, slot.storage, "r16"), operand.stored)

    def __call__(self, entry: str, rows: np.ndarray, n: int, pos: int) -> np.ndarray:
        """The rows that `entry` makes of `rows`."""
        given, *_, made = self.manifest.entries[entry]
        out = np.full(made.shape, np.nan, np.float32)
        setattr(self.context, given.name, rows.ctypes.data)
        setattr(self.context, made.name, out.ctypes.data)
        self.context.n, self.context.pos = n, pos
        getattr(self.program, f"ck_{entry}")(ctypes.byref(self.context))
        return out

    def close(self) -> None:
        """Join the threads."""
        self.runtime.ck_pool_destroy(self.pool)


def _aligned(n_bytes: int) -> np.ndarray:
    """Bytes of 0xFF from a multiple of 64 on."""
    memory = np.full(n_bytes + 64, 0xFF, np.uint8)
    skip = -memory.ctypes.data % 64
    return memory[skip : skip + n_bytes]


def _pointers(arrays: list[np.ndarray]) -> ctypes.Array:
    return (ctypes.c_void_p * max(1, len(arrays)))(*(array.ctypes.data for array in arrays))
