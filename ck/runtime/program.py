"""A compiled program in this process: its entries, its threads, and the struct through which both speak."""

import ctypes
import mmap
from collections.abc import Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.backend.backends import backend_of
from ck.backend.context import context_hash, context_type
from ck.errors import InternalError, ResourceError, UsageError
from ck.ir.rt.slots import Manifest
from ck.runtime.library import library, thread_count

# void (*)(ck_context* c)
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def anonymous(n_bytes: int) -> NDArray[np.uint8]:
    """Zero pages that cost memory once they are written. Raises ResourceError when they are refused."""
    try:
        return np.frombuffer(mmap.mmap(-1, max(1, n_bytes)), np.uint8)
    except (OSError, OverflowError) as error:
        raise ResourceError(
            f"memory: {n_bytes / 2**20:.0f} MiB are wanted, the system refuses them"
        ) from error


class Program:
    """A program loaded with its arena and caches. `weights` is the table of pointers it reads weights by.

    `compiled` is a file that one of the backends has made, under that backend's name for it.
    """

    def __init__(
        self, compiled: Path, manifest: Manifest, weights: "ctypes.Array[Any]", threads: int | None
    ) -> None:
        # Before the program, which calls it.
        self._runtime = library()
        self._program = backend_of(compiled).load(compiled)
        self.manifest = manifest
        self._check_layout()
        self._arena = anonymous(manifest.arena_bytes)
        self.caches = [anonymous(slot.n_bytes) for slot in manifest.caches]
        self._pointers = weights
        self._entries = {name: self._entry(name) for name in manifest.entries}
        # One state, one pool: threads that share a program take turns. Held over several calls by whoever
        # needs them together.
        self.lock = RLock()
        self._pool: int | None = None
        self._context = self._make_context()
        self.set_threads(thread_count(threads))

    def _check_layout(self) -> None:
        wanted = context_hash(self.manifest)
        address = self._program.address("ck_context_hash")
        found = ctypes.string_at(address, len(wanted)).decode(errors="replace")
        if found != wanted:
            raise InternalError(f"the program's context is {found}, the runtime's {wanted}")

    def _entry(self, name: str) -> Any:
        return _ENTRY(self._program.address(f"ck_{name}"))

    def _make_context(self) -> Any:
        context = context_type(self.manifest)()
        pointers = (ctypes.c_void_p * max(1, len(self.caches)))(*(cache.ctypes.data for cache in self.caches))
        self._cache_pointers = pointers
        context.arena = self._arena.ctypes.data
        context.weights = ctypes.addressof(self._pointers)
        context.caches = ctypes.addressof(pointers)
        return context

    @property
    def n_threads(self) -> int:
        """Threads that every call uses."""
        return int(self._context.n_threads)

    def set_threads(self, n: int) -> None:
        """Use `n` threads from now on.

        Raises UsageError for a number below 1, ResourceError when the system gives no more.
        """
        n = thread_count(n)
        pool = self._runtime.ck_pool_create(n)
        if not pool:
            raise ResourceError(f"{n} threads are wanted, the system refuses to start them; use fewer (-t)")
        with self.lock:
            self.close()
            self._pool = pool
            self._context.pool, self._context.n_threads = pool, n

    def close(self) -> None:
        """Join the threads; nothing can run until `set_threads` starts others."""
        with self.lock:
            if self._pool:
                self._runtime.ck_pool_destroy(self._pool)
            self._pool = None

    def __del__(self) -> None:
        if getattr(self, "_pool", None):
            self.close()

    def bind(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Let the buffers of the entries' arguments be these arrays, which must outlive the program."""
        for name, array in arrays.items():
            setattr(self._context, name, array.ctypes.data)

    def run(self, entry: str, n: int, pos: int | None = None) -> None:
        """Run one entry on `n` rows. Raises UsageError after `close`."""
        if not self._pool:
            raise UsageError("the executable is closed; set_threads opens it again")
        self._context.n = n
        if pos is not None:
            self._context.pos = pos
        self._entries[entry](ctypes.addressof(self._context))


def pointer_table(arrays: Sequence[NDArray[Any]]) -> "ctypes.Array[Any]":
    """The addresses of arrays, as a program takes its weights."""
    return (ctypes.c_void_p * max(1, len(arrays)))(*(array.ctypes.data for array in arrays))
