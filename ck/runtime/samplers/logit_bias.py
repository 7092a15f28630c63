"""logit_bias: add a number of one's own to the logits of some tokens; -inf bans one, +inf demands it."""

from collections.abc import Mapping

import numpy as np

from ck.errors import UsageError
from ck.runtime.samplers.candidates import Candidates, Floats, Ids, Step


class LogitBias(Step):
    """`biases` by token. A token outside the vocabulary, and a ban of all tokens, is a UsageError."""

    def __init__(self, biases: Mapping[int, float]) -> None:
        self._tokens = np.array(sorted(biases), np.int64)
        self._biases = np.array([biases[token] for token in sorted(biases)])

    def apply(self, row: Candidates) -> Candidates:
        beyond = self._tokens[self._tokens >= len(row)]
        if beyond.size:
            raise UsageError(f"logit_bias: tokens must be from 0 to {len(row) - 1}, found {int(beyond[0])}")
        row = row.changed(self._tokens, self._add)
        if row.best == -np.inf:
            raise UsageError("logit_bias: must leave a token that can be chosen, all are at -inf")
        return row

    def _add(self, logits: Floats, places: Ids) -> Floats:
        biases = self._biases[places]
        # Not the sum, which is NaN for infinities of unlike signs.
        return np.where(np.isinf(biases), biases, logits + np.where(np.isinf(biases), 0, biases))
