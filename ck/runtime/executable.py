"""A compiled program with its weights and one sequence's state: prefill, decode, score.

The result depends on weights and tokens alone: not on threads, on how a prompt is cut into chunks, or on
whether a prefix was already in the cache.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ck.errors import ResourceError, UsageError
from ck.ir.rt.slots import Manifest
from ck.runtime.program import Program
from ck.runtime.weights import Weights

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Saved:
    """A sequence's position and caches."""

    pos: int
    high: int
    caches: tuple[NDArray[np.uint8], ...]


class Executable(Program):
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
        super().__init__(program, manifest, weights.pointers, threads)
        self.weights, self.n_ctx, self.window = weights, n_ctx, window
        arguments = {name: {a.name: a for a in args} for name, args in manifest.entries.items()}
        self.chunk = arguments["prefill"]["tokens"].shape[0]
        self.n_vocab = arguments["decode"]["logits"].shape[1]
        self._head_rows = arguments["head"]["hidden"].shape[0]
        d_model = arguments["head"]["hidden"].shape[1]
        self._tokens = np.zeros(self.chunk, np.int32)
        self._hidden = np.zeros((self.chunk, d_model), np.float32)
        self._logits = np.zeros((self._head_rows, self.n_vocab), np.float32)
        self.bind({"tokens": self._tokens, "hidden": self._hidden, "logits": self._logits})
        self._has_state = any(cache.kind == "state" for cache in manifest.caches)
        self.pos = 0
        self._high = 0

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
            self.run("decode", 1, self.pos)
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
        self.bind({"hidden": self._hidden})
        self.run("prefill", n, self.pos)
        self._advance(n)
        return n

    def _run_head(self, row: int, count: int) -> Logits:
        self.bind({"hidden": self._hidden[row:]})
        self.run("head", count, self.pos)
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
        """Keep the first `pos` tokens.

        False, and nothing changed, when a window's ring has lost some, or when a recurrent state has gone
        on: it goes back to the beginning, or to what `save` kept.
        """
        if not 0 <= pos <= self.pos:
            return False
        oldest = max(0, pos - self.window + 1)
        if any(
            cache.is_ring(self.n_ctx) and self._high > oldest + cache.shape[1]
            for cache in self.manifest.caches
        ):
            return False
        if self._has_state and 0 < pos < self.pos:
            return False
        self.pos = pos
        return True

    def save(self) -> Saved:
        """A copy of all that is kept of the sequence so far, for `load`."""
        with self.lock:
            return Saved(self.pos, self._high, tuple(cache.copy() for cache in self.caches))

    def load(self, saved: Saved) -> None:
        """Go on from where this executable's `save` was called."""
        with self.lock:
            for cache, kept in zip(self.caches, saved.caches, strict=True):
                cache[:] = kept
            self.pos, self._high = saved.pos, saved.high
