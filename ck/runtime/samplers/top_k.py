"""top_k: keep the k likeliest tokens."""

from ck.runtime.samplers.candidates import Candidates, Step


class TopK(Step):
    """`k` is above 0; a k beyond the candidates keeps them all."""

    keeps_best = True

    def __init__(self, k: int) -> None:
        self._k = k

    def apply(self, row: Candidates) -> Candidates:
        return row.first(self._k)
