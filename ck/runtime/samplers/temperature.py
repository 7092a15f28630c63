"""temperature: divide the logits; 0 or less leaves the likeliest token. Dynamic: by how uncertain they are.

    h = entropy / ln(candidates)
    T = low + (high - low) * h^exponent         low = max(0, temp - range), high = temp + range

Source of dynamic temperature: llama.cpp, src/llama-sampler.cpp, `llama_sampler_init_temp_ext`.
"""

import math

import numpy as np

from ck.runtime.samplers.candidates import Candidates, Step


class Temperature(Step):
    """`temp`, which is dynamic for a `spread` (the formula's range) above 0."""

    def __init__(self, temp: float, spread: float = 0.0, exponent: float = 1.0) -> None:
        self._temp, self._spread, self._exponent = temp, spread, exponent

    def apply(self, row: Candidates) -> Candidates:
        temp = self._temp
        if self._spread > 0:
            if len(row) < 2:
                return row
            row = row.ordered()
            low, high = max(0.0, temp - self._spread), temp + self._spread
            temp = low + (high - low) * _evenness(row) ** self._exponent
        if temp <= 0:
            return row.first(1)
        return row if row.best == math.inf else row.scaled(temp)


def _evenness(row: Candidates) -> float:
    """Entropy over its largest value: 0 for one sure token, 1 for tokens that are equally likely."""
    probabilities = row.probabilities()
    some = probabilities[probabilities > 0]
    return max(0.0, float(-(some * np.log(some)).sum())) / math.log(len(probabilities))
