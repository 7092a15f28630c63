"""A compiled program with its weights and one sequence's state: prefill, decode, score.

The result depends on weights and tokens alone: not on threads, on how a prompt is cut into chunks, or on
whether a prefix was already in the cache.
"""

import ctypes
import mmap
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ck.backend.c.context import context_hash, context_type
from ck.errors import InternalError, ResourceError, UsageError
from ck.ir.rt.slots import CacheSlot, Manifest
from ck.runtime.library import library, thread_count
from ck.runtime.weights import Weights

Logits = NDArray[np.float32]


def _anonymous(n_bytes: int) -> NDArray[np.uint8]:
    """Zero pages that cost memory once they are written."""
    return np.frombuffer(mmap.mmap(-1, max(1, n_bytes)), np.uint8)


class Executable:
    """One program, one sequence. `n_ctx` positions, `chunk` rows a prefill step, `n_vocab` logits a row."""

    def __init__(
        self,
        program: Path,
        manifest: Manifest,
        weights: Weights,
        n_ctx: int,
        window: int,
        threads: int | None = None,
    ) -> None:
        self._runtime = library()
        self._program = ctypes.CDLL(str(program))
        self.manifest, self.weights, self.n_ctx, self.window = manifest, weights, n_ctx, window
        self._check_layout()
        arguments = {name: {a.name: a for a in args} for name, args in manifest.entries.items()}
        self.chunk = arguments["prefill"]["tokens"].shape[0]
        self.n_vocab = arguments["decode"]["logits"].shape[1]
        self._head_rows = arguments["head"]["hidden"].shape[0]
        d_model = arguments["head"]["hidden"].shape[1]
        self._tokens = np.zeros(self.chunk, np.int32)
        self._hidden = np.zeros((self.chunk, d_model), np.float32)
        self._logits = np.zeros((self._head_rows, self.n_vocab), np.float32)
        self._arena = _anonymous(manifest.arena_bytes)
        self.caches = [_anonymous(slot.n_bytes) for slot in manifest.caches]
        self._entries = {name: self._entry(name) for name in manifest.entries}
        # One sequence, one pool: threads that share an executable take turns. Held over several calls by
        # whoever needs them together.
        self.lock = RLock()
        self._pool: int | None = None
        self._context = self._make_context()
        self.set_threads(thread_count(threads))
        self.pos = 0
        self._high = 0

    def _check_layout(self) -> None:
        wanted = context_hash(self.manifest)
        found = (ctypes.c_char * len(wanted)).in_dll(self._program, "ck_context_hash").value.decode()
        if found != wanted:
            raise InternalError(f"the program's context is {found}, the runtime's {wanted}")

    def _entry(self, name: str) -> Any:
        function = self._program[f"ck_{name}"]
        function.argtypes, function.restype = (ctypes.c_void_p,), None
        return function

    def _make_context(self) -> Any:
        context = context_type(self.manifest)()
        pointers = (ctypes.c_void_p * max(1, len(self.caches)))(*(cache.ctypes.data for cache in self.caches))
        self._cache_pointers = pointers
        context.arena = self._arena.ctypes.data
        context.weights = ctypes.addressof(self.weights.pointers)
        context.caches = ctypes.addressof(pointers)
        context.tokens = self._tokens.ctypes.data
        context.hidden = self._hidden.ctypes.data
        context.logits = self._logits.ctypes.data
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
        """Join the threads; the executable cannot run until `set_threads` starts others."""
        with self.lock:
            if self._pool:
                self._runtime.ck_pool_destroy(self._pool)
            self._pool = None

    def __del__(self) -> None:
        if getattr(self, "_pool", None):
            self.close()

    def _run(self, entry: str, n: int) -> None:
        """Run one entry on `n` rows. Raises UsageError after `close`."""
        if not self._pool:
            raise UsageError("the executable is closed; set_threads opens it again")
        self._context.n, self._context.pos = n, self.pos
        self._entries[entry](ctypes.addressof(self._context))

    def prefill(self, tokens: ArrayLike, chunk: int | None = None) -> Logits:
        """Append `tokens` [T] and return the last one's logits [V], a fresh copy.

        `chunk` rows a step at most (default and limit: the program's). Raises UsageError for an empty prompt
        or an id outside the vocabulary, ResourceError when the context is full.
        """
        with self.lock:
            ids, step = self._checked(tokens), self._step(chunk)
            n = 0
            for first in range(0, len(ids), step):
                n = self._run_prefill(ids[first : first + step])
            return self._run_head(n - 1, 1)[0].copy()

    def decode(self, token: int) -> Logits:
        """Append one token and return its logits [V], valid until the next call."""
        with self.lock:
            self._tokens[:1] = self._checked([token])
            self._run("decode", 1)
            self._advance(1)
            return self._logits[0]

    def score(self, tokens: ArrayLike, chunk: int | None = None) -> Logits:
        """Append `tokens` [T] and return the logits of every one: [T, V]. Raises as `prefill` does."""
        with self.lock:
            ids, step = self._checked(tokens), self._step(chunk)
            scores = np.empty((len(ids), self.n_vocab), np.float32)
            for first in range(0, len(ids), step):
                n = self._run_prefill(ids[first : first + step])
                for row in range(0, n, self._head_rows):
                    count = min(self._head_rows, n - row)
                    scores[first + row : first + row + count] = self._run_head(row, count)
            return scores

    def _step(self, chunk: int | None) -> int:
        """Rows a prefill step."""
        if chunk is not None and chunk < 1:
            raise UsageError(f"chunk: 1 row at least is required, found {chunk}")
        return min(chunk or self.chunk, self.chunk)

    def _run_prefill(self, ids: NDArray[np.int32]) -> int:
        n = len(ids)
        self._tokens[:n] = ids
        self._context.hidden = self._hidden.ctypes.data
        self._run("prefill", n)
        self._advance(n)
        return n

    def _run_head(self, row: int, count: int) -> Logits:
        self._context.hidden = self._hidden[row:].ctypes.data
        self._run("head", count)
        return self._logits[:count]

    def _advance(self, n: int) -> None:
        self.pos += n
        self._high = max(self._high, self.pos)

    def _checked(self, tokens: ArrayLike) -> NDArray[np.int32]:
        """`tokens` as ids [T] that the program may be given."""
        ids = np.asarray(tokens)
        if ids.size == 0:
            raise UsageError("a prompt needs one token at least, found none")
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise UsageError(f"token ids are a list of integers, found {ids.dtype} of shape {ids.shape}")
        if int(ids.min()) < 0 or int(ids.max()) >= self.n_vocab:
            raise UsageError(
                f"token ids are 0 to {self.n_vocab - 1}, found {int(ids.min())} to {int(ids.max())}"
            )
        wanted = self.pos + len(ids)
        if wanted > self.n_ctx:
            raise ResourceError(
                f"the context holds {self.n_ctx} tokens, {wanted} are wanted; raise -c or reset"
            )
        return ids.astype(np.int32)

    def reset(self) -> None:
        """Forget the sequence."""
        self.pos = self._high = 0

    def rewind(self, pos: int) -> bool:
        """Keep the first `pos` tokens. False, and nothing changed, when a window's ring has lost some."""
        if not 0 <= pos <= self.pos:
            return False
        oldest = max(0, pos - self.window + 1)
        if any(
            self._is_ring(cache) and self._high > oldest + cache.capacity for cache in self.manifest.caches
        ):
            return False
        self.pos = pos
        return True

    def _is_ring(self, cache: CacheSlot) -> bool:
        return cache.capacity < self.n_ctx
