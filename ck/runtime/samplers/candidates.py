"""`Candidates`: the tokens that may still be chosen, each with a logit; and `Step`, what a chain is made of.

Candidates of a whole vocabulary stand in its order until a step asks for them in their own: by logit,
falling, equal logits by token id, rising. Sorting a vocabulary is what a chain that begins with top_k spares.
"""

import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Values: TypeAlias = NDArray[np.float32] | Floats

# Logits a block of `top`'s first pass. 256 of 262,144: 0.16 ms against 0.46 ms of np.argpartition
# (timeit, 2-core Xeon, 2026-11-23).
_BLOCK = 256


class Candidates:
    """Tokens and their logits, one at least, none NaN. Logits of -inf may be among them: they count as
    candidates, as in llama.cpp, and have the probability 0.
    """

    def __init__(self, values: Values, ids: Ids | None = None) -> None:
        """`values` [N] in order, of tokens `ids` [N]; without `ids`, of the tokens 0 to N - 1, in theirs."""
        self.values, self._ids = values, ids

    def __len__(self) -> int:
        return len(self.values)

    @property
    def ids(self) -> Ids:
        """Tokens [N], as `values`."""
        return np.arange(len(self.values)) if self._ids is None else self._ids

    @property
    def is_ordered(self) -> bool:
        """Whether they stand in their own order."""
        return self._ids is not None

    @property
    def best(self) -> float:
        """The largest logit."""
        return float(self.values[0] if self._ids is not None else self.values.max())

    def ordered(self) -> "Candidates":
        """The same, in order and f64."""
        return self if self._ids is not None else _sorted(self.values, np.arange(len(self.values)))

    def first(self, n: int) -> "Candidates":
        """The `n` likeliest, in order; all of them when there are fewer."""
        if self._ids is not None:
            return Candidates(self.values[:n], self._ids[:n])
        found = _at_least_kth_block(self.values, n)
        whole = _sorted(self.values[found], found)
        return Candidates(whole.values[:n], whole.ids[:n])

    def kept(self, places: NDArray[np.intp] | slice) -> "Candidates":
        """Those at `places` of the ordered candidates, which rise."""
        whole = self.ordered()
        return Candidates(whole.values[places], whole.ids[places])

    def scaled(self, factor: float) -> "Candidates":
        """With logits over `factor`, which is above 0."""
        whole = self.ordered()
        with np.errstate(over="ignore"):
            values = whole.values / factor
            if math.isinf(values[0]):
                # A tiny factor. Probabilities depend on differences alone.
                values = (whole.values - whole.values[0]) / factor
        return Candidates(values, whole.ids)

    def changed(self, tokens: Ids, change: Callable[[Floats, Ids], Floats]) -> "Candidates":
        """With `change(logits, places)` as the logits of those of `tokens` that are here; no token twice."""
        if self._ids is None:
            within = np.flatnonzero(tokens < len(self.values))
            values = self.values.copy()
            values[tokens[within]] = change(values[tokens[within]].astype(np.float64), within)
            return Candidates(values)
        _, places, within = np.intersect1d(self._ids, tokens, assume_unique=True, return_indices=True)
        values = self.values.copy()
        values[places] = change(values[places].astype(np.float64), within)
        by_id = np.argsort(self._ids)
        return _sorted(values[by_id], self._ids[by_id])

    def probabilities(self) -> Floats:
        """Of the ordered candidates [N]; tokens of +inf share everything."""
        values = self.ordered().values
        if values[0] == math.inf:
            shares = (values == math.inf).astype(np.float64)
        else:
            shares = np.exp(values - values[0])
        return shares / shares.sum()


def _sorted(values: Values, ids: Ids) -> Candidates:
    # `ids` rise, so that places stand for them.
    order = _order32(values) if values.dtype == np.float32 else np.argsort(-values, kind="stable")
    wide = values.astype(np.float64)
    return Candidates(wide[order], ids[order])


def _order32(values: Values) -> Ids:
    # Places sorted by value, falling, equal values in their order: as numbers that have the value's bits in
    # their upper half and the place in the lower. Adding 0 leaves one zero of the two. Half the time of a
    # stable argsort of 262,144 values (timeit, 2-core Xeon, busy, 2026-11-26).
    bits = (values + np.float32(0)).view(np.uint32)
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))
    keys = falling.astype(np.uint64) << np.uint64(32) | np.arange(len(values), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _at_least_kth_block(values: Values, k: int) -> Ids:
    # The k-th largest of the blocks' maxima is a lower bound of the k-th largest logit, found in one pass:
    # few logits pass it, and sorting those is cheap where sorting a vocabulary is not.
    starts = np.arange(0, len(values), _BLOCK)
    if len(starts) <= k:
        return np.arange(len(values))
    maxima = np.maximum.reduceat(values, starts)
    bound = np.partition(maxima, -k)[-k]
    return np.flatnonzero(values >= bound)


def bounded(old: Floats, new: Floats) -> Floats:
    """`new` logits of tokens that had `old` ones: infinite ones stay, others stay finite, also as f32."""
    limits = np.finfo(np.float32)
    return np.where(np.isinf(old), old, np.clip(new, limits.min, limits.max))


class Step:
    """One sampler of a chain; what it does not change it leaves as it is.

    `keeps_best`: it neither changes logits nor drops the likeliest token: right before argmax it is idle.
    """

    keeps_best = False

    def apply(self, row: Candidates) -> Candidates:
        """The candidates that are left of `row`, one at least."""
        return row

    def see(self, tokens: Iterable[int]) -> None:
        """Learn of tokens of the prompt, or of one that was chosen."""
        del tokens

    def forget(self) -> None:
        """A new reply begins: nothing was seen."""
        return

    def drew(self, probability: float) -> None:
        """Learn how probable the token was that was drawn from what is left at the chain's end."""
        del probability
