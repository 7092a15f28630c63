"""xtc: with a probability, drop all but the least likely of the tokens that reach a threshold.

Source: llama.cpp, src/llama-sampler.cpp, after text-generation-webui's pull request 6335.
"""

import numpy as np

from ck.runtime.samplers.candidates import Candidates, Step


class Xtc(Step):
    """`probability` above 0, `threshold` from 0 to 0.5; nothing goes where fewer than `min_keep` would stay.

    Each `apply` takes one draw from `random`, whatever the candidates.
    """

    def __init__(
        self, probability: float, threshold: float, min_keep: int, random: np.random.Generator
    ) -> None:
        self._probability, self._threshold = probability, threshold
        self._min_keep, self._random = min_keep, random

    def apply(self, row: Candidates) -> Candidates:
        if self._random.random() >= self._probability:
            return row
        row = row.ordered()
        probabilities = row.probabilities()
        # What cannot be chosen is not what is left, also for a threshold of 0.
        last = int(np.count_nonzero((probabilities >= self._threshold) & (probabilities > 0))) - 1
        if last < 1 or len(row) - last < self._min_keep:
            return row
        return row.kept(slice(last, None))
