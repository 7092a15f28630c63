"""From logits to a token: llama.cpp's sampler chain, with its names, defaults and order.

    penalties -> top_k -> typ_p -> top_p -> min_p -> temperature -> one draw

The chain is a function of the logits, the tokens so far and the seed: a draw is one float64 from
numpy's PCG64, whatever the candidates. Where the chain leaves a choice open, it is fixed here:
- candidates are ordered by logit, falling; equal logits by token id, rising: argmax is the lowest.
- `temp` 0 (or less) is argmax after the penalties; no filter is asked and nothing is drawn.
- +inf beats everything finite; several +inf are equally likely. -inf is never chosen.
- NaN anywhere, or nothing but -inf, is a CkError: there is no right token.
Probabilities are float64. Source of order and defaults: llama.cpp, common/common.h and src/llama-sampler.cpp.
"""

import math
import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ck.errors import CkError, UsageError

Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

# Logits a block of top_k's first pass. 256 of 262,144: 0.16 ms against 0.46 ms of np.argpartition
# (timeit, 2-core Xeon, 2026-11-23).
_BLOCK = 256


@dataclass(frozen=True)
class SamplingParams:
    """The chain's settings. What turns a sampler off: top_k 0, typ_p 1, top_p 1, min_p 0, repeat_penalty 1,
    presence_penalty 0, frequency_penalty 0, repeat_last_n 0 (-1: all tokens so far). seed -1: a random one.
    """

    temp: float = 0.8
    top_k: int = 40
    typ_p: float = 1.0
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = -1

    def __post_init__(self) -> None:
        for name in ("temp", "presence_penalty", "frequency_penalty"):
            _require(math.isfinite(getattr(self, name)), name, "a finite number", getattr(self, name))
        for name in ("typ_p", "top_p", "min_p"):
            _require(0 <= getattr(self, name) <= 1, name, "from 0 to 1", getattr(self, name))
        penalty = self.repeat_penalty
        _require(0 < penalty < math.inf, "repeat_penalty", "above 0 and finite", penalty)
        _require(self.repeat_last_n >= -1, "repeat_last_n", "-1 or more", self.repeat_last_n)
        _require(-1 <= self.seed < 2**64, "seed", "-1 or from 0 to 2^64 - 1", self.seed)

    @property
    def penalizes(self) -> bool:
        """Whether any penalty can change a logit."""
        on = self.repeat_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
        return on and self.repeat_last_n != 0


def _require(holds: bool, name: str, what: str, value: float) -> None:
    if not holds:
        raise UsageError(f"{name}: must be {what}, got {value}")


class Sampler:
    """A chain with its random stream and the tokens it has seen. `seed` is the one in use, never -1."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.seed = params.seed if params.seed >= 0 else secrets.randbits(32)
        self._random = np.random.Generator(np.random.PCG64(self.seed))
        window = params.repeat_last_n
        self._seen: deque[int] = deque(maxlen=None if window < 0 else window)

    def see(self, tokens: Iterable[int]) -> None:
        """Add tokens (the prompt's, or one that was chosen) to what the penalties look at."""
        self._seen.extend(tokens)

    def forget(self) -> None:
        """Empty what the penalties look at; the random stream goes on."""
        self._seen.clear()

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next token for `logits` [V] f32, which stay as they are; it is not yet `see`n."""
        if self.params.temp <= 0:
            return greedy(self._penalized(logits))
        ids, probabilities = self.distribution(logits)
        cumulative = np.cumsum(probabilities)
        target = self._random.random() * float(cumulative[-1])
        index = int(np.searchsorted(cumulative, target, side="right"))
        return int(ids[min(index, len(ids) - 1)])

    def distribution(self, logits: NDArray[np.float32]) -> tuple[Ids, Floats]:
        """The tokens the chain leaves and their probabilities, most likely first; temp must be above 0."""
        params = self.params
        ids, values = keep_top_k(self._penalized(logits), params.top_k)
        ids, values = _keep_typical(ids, values, params.typ_p)
        ids, values = _keep_top_p(ids, values, params.top_p)
        ids, values = _keep_min_p(ids, values, params.min_p)
        return ids, softmax(values, params.temp)

    def _penalized(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        params = self.params
        if not params.penalizes or not self._seen:
            return logits
        ids, counts = np.unique(np.fromiter(self._seen, np.int64), return_counts=True)
        old = logits[ids].astype(np.float64)
        new = np.where(old <= 0, old * params.repeat_penalty, old / params.repeat_penalty)
        new -= counts * params.frequency_penalty + params.presence_penalty
        out = logits.copy()
        out[ids] = new
        return out


def greedy(logits: NDArray[np.float32]) -> int:
    """The lowest token with the largest logit. Raises CkError for NaN and for nothing but -inf."""
    token = int(np.argmax(logits))
    _check_best(float(logits[token]), token)
    return token


def _check_best(best: float, token: int) -> None:
    # numpy's argmax and max stop at the first NaN, so looking at the best value finds any.
    if math.isnan(best):
        raise CkError(f"logits: each must be a number, token {token} has NaN; check the model file's hash")
    if best == -math.inf:
        raise CkError("logits: one must be above -inf, all are -inf; check the model file's hash")


def keep_top_k(logits: NDArray[np.float32], k: int) -> tuple[Ids, Floats]:
    """The `k` largest of `logits` [V] above -inf (all of them for k <= 0) with their ids, in order."""
    greedy(logits)
    ids = _at_least_kth_block(logits, k) if 0 < k < len(logits) else np.arange(len(logits))
    values = logits[ids].astype(np.float64)
    order = np.argsort(-values, kind="stable")
    order = order[: k if k > 0 else None]
    ids, values = ids[order], values[order]
    if values[0] == math.inf:
        ids = ids[values == math.inf]
        return ids, np.zeros(len(ids))
    above = values > -math.inf
    return ids[above], values[above]


def _at_least_kth_block(logits: NDArray[np.float32], k: int) -> Ids:
    # The k-th largest of the blocks' maxima is a lower bound of the k-th largest logit, found in one pass:
    # few logits pass it, and sorting those is cheap where sorting a vocabulary is not.
    starts = np.arange(0, len(logits), _BLOCK)
    if len(starts) <= k:
        return np.arange(len(logits))
    maxima = np.maximum.reduceat(logits, starts)
    bound = np.partition(maxima, -k)[-k]
    return np.flatnonzero(logits >= bound)


def softmax(values: Floats, temp: float = 1.0) -> Floats:
    """exp(v / temp) over its sum, for `values` in falling order."""
    weights = np.exp((values - values[0]) / temp)
    return weights / weights.sum()


def _keep_typical(ids: Ids, values: Floats, p: float) -> tuple[Ids, Floats]:
    if p >= 1:
        return ids, values
    probabilities = softmax(values)
    surprise = -np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    entropy = float((probabilities * surprise).sum())
    order = np.argsort(np.abs(surprise - entropy), kind="stable")
    past = np.cumsum(probabilities[order]) > p
    count = int(np.argmax(past)) + 1 if past.any() else len(order)
    kept = np.sort(order[:count])
    return ids[kept], values[kept]


def _keep_top_p(ids: Ids, values: Floats, p: float) -> tuple[Ids, Floats]:
    if p >= 1:
        return ids, values
    reached = np.cumsum(softmax(values)) >= p
    count = int(np.argmax(reached)) + 1 if reached.any() else len(ids)
    return ids[:count], values[:count]


def _keep_min_p(ids: Ids, values: Floats, p: float) -> tuple[Ids, Floats]:
    if p <= 0:
        return ids, values
    count = int(np.count_nonzero(values >= values[0] + math.log(p)))
    return ids[:count], values[:count]
