"""typ_p: keep the tokens whose surprise is nearest to the entropy, until their probabilities exceed p.

    surprise[t] = -ln p[t]      entropy = sum_t p[t] * surprise[t]

Source: Meister et al. 2022, arXiv:2202.00666.
"""

import numpy as np

from ck.runtime.samplers.candidates import Candidates, Step


class TypicalP(Step):
    """`p` from 0 to below 1; `min_keep` tokens stay in any case. The likeliest may go."""

    def __init__(self, p: float, min_keep: int) -> None:
        self._p, self._min_keep = p, min_keep

    def apply(self, row: Candidates) -> Candidates:
        row = row.ordered()
        probabilities = row.probabilities()
        surprise = -np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
        entropy = float((probabilities * surprise).sum())
        order = np.argsort(np.abs(surprise - entropy), kind="stable")
        past = np.cumsum(probabilities[order]) > self._p
        n = int(np.argmax(past)) + 1 if past.any() else len(order)
        return row.kept(np.sort(order[: max(n, self._min_keep)]))
