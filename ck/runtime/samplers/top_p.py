"""top_p: keep the likeliest tokens whose probabilities together reach p.

Source: Holtzman et al. 2019, arXiv:1904.09751.
"""

import numpy as np

from ck.runtime.samplers.candidates import Candidates, Step


class TopP(Step):
    """`p` from 0 to below 1; `min_keep` tokens stay in any case, and the likeliest always does."""

    keeps_best = True

    def __init__(self, p: float, min_keep: int) -> None:
        self._p, self._min_keep = p, min_keep

    def apply(self, row: Candidates) -> Candidates:
        row = row.ordered()
        reached = np.cumsum(row.probabilities()) >= self._p
        n = int(np.argmax(reached)) + 1 if reached.any() else len(row)
        return row.kept(slice(max(n, self._min_keep)))
