"""top_n_sigma: drop to -inf what lies more than n standard deviations of the logits below the largest.

Mean and deviation are those of the logits above -inf. Source: Tang et al. 2024, arXiv:2411.07641.
"""

import numpy as np

from ck.runtime.samplers.candidates import Candidates, Step


class TopNSigma(Step):
    """`n` is above 0."""

    keeps_best = True

    def __init__(self, n: float) -> None:
        self._n = n

    def apply(self, row: Candidates) -> Candidates:
        if len(row) < 2 or row.best == np.inf:
            return row
        finite = row.values[row.values > -np.inf]
        dropped = row.values.copy()
        dropped[dropped < row.best - self._n * float(finite.std(dtype=np.float64))] = -np.inf
        return Candidates(dropped, row.ids if row.is_ordered else None)
