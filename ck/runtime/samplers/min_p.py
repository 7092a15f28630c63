"""min_p: keep the tokens that are at least p times as likely as the likeliest.

Source: Nguyen et al. 2024, arXiv:2407.01082.
"""

import math

import numpy as np

from ck.runtime.samplers.candidates import Candidates, Step


class MinP(Step):
    """`p` from above 0 to 1; `min_keep` tokens stay in any case, and the likeliest always does."""

    keeps_best = True

    def __init__(self, p: float, min_keep: int) -> None:
        self._bound, self._min_keep = math.log(p), min_keep

    def apply(self, row: Candidates) -> Candidates:
        row = row.ordered()
        n = int(np.count_nonzero(row.values >= row.values[0] + self._bound))
        return row.kept(slice(max(n, self._min_keep)))
