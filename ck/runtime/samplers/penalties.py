"""penalties: make tokens of the last N less likely: repeat, frequency and presence penalty.

    l[t] <- l[t] * repeat  if l[t] <= 0,  l[t] / repeat  otherwise
    l[t] <- l[t] - count[t] * frequency - presence

where t is count[t] times among the last N. Source: Keskar et al. 2019, arXiv:1909.05858, and llama.cpp.
"""

from collections import deque
from collections.abc import Iterable

import numpy as np

from ck.runtime.samplers.candidates import Candidates, Floats, Ids, Step, bounded


class Penalties(Step):
    """`last_n` tokens are looked at; -1 is all."""

    def __init__(self, last_n: int, repeat: float, frequency: float, presence: float) -> None:
        self._repeat, self._frequency, self._presence = repeat, frequency, presence
        self._seen: deque[int] = deque(maxlen=None if last_n < 0 else last_n)

    def see(self, tokens: Iterable[int]) -> None:
        self._seen.extend(tokens)

    def forget(self) -> None:
        self._seen.clear()

    def apply(self, row: Candidates) -> Candidates:
        if not self._seen:
            return row
        ids, found = np.unique(np.fromiter(self._seen, np.int64), return_counts=True)
        counts = found.astype(np.float64)

        def penalize(old: Floats, places: Ids) -> Floats:
            new: Floats = np.where(old <= 0, old * self._repeat, old / self._repeat)
            return bounded(old, new - (counts[places] * self._frequency + self._presence))

        return row.changed(ids, penalize)
