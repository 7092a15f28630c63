"""mirostat: hold the surprise of a text near tau: mu, the most that a token may surprise, follows it.

    s = -log2(p of the token that was drawn, among those that were left)        mu <- mu - eta * (s - tau)

Version 2 keeps the tokens with -log2 p <= mu. Version 1 keeps the k likeliest, k by Zipf's law: the exponent
z is fitted to the first 100 probabilities, and of a vocabulary of V

    k = ((z - 1) * 2^mu / (1 - V^(1 - z)))^(1 / z)

mu begins at 2 tau with each reply. Source: Basu et al. 2020, arXiv:2007.14966.
"""

import math

import numpy as np

from ck.runtime.samplers.candidates import Candidates, Floats, Step

# Probabilities that version 1 fits its exponent to.
_FITTED = 100


class Mirostat(Step):
    """Version 1 or 2. Its candidates are the vocabulary."""

    def __init__(self, version: int, tau: float, eta: float) -> None:
        self._version, self._tau, self._eta = version, tau, eta
        self.mu = 2 * tau

    def apply(self, row: Candidates) -> Candidates:
        row = row.ordered()
        probabilities = row.probabilities()
        if self._version == 2:
            bits = -np.log2(np.maximum(probabilities, np.finfo(np.float64).tiny))
            n = int(np.count_nonzero(bits <= self.mu))
        else:
            n = _zipf_rank(probabilities, self.mu)
        return row.kept(slice(max(1, n)))

    def forget(self) -> None:
        self.mu = 2 * self._tau

    def drew(self, probability: float) -> None:
        self.mu -= self._eta * (-math.log2(probability) - self._tau)


def _zipf_rank(probabilities: Floats, mu: float) -> int:
    """k of version 1; all for probabilities that no exponent above 0 fits."""
    some = probabilities[probabilities > 0][:_FITTED]
    if len(some) < 2:
        return 1
    steps = np.log(np.arange(2, len(some) + 1) / np.arange(1, len(some)))
    exponent = float((steps * np.log(some[:-1] / some[1:])).sum() / (steps**2).sum())
    excess, n_vocab = exponent - 1, len(probabilities)
    if exponent <= 0:
        return n_vocab
    # (z - 1) / (1 - V^(1 - z)) goes to 1 / ln V where z goes to 1.
    scale = -excess / math.expm1(-excess * math.log(n_vocab)) if excess else 1 / math.log(n_vocab)
    log_rank = (math.log(scale) + mu * math.log(2)) / exponent
    return n_vocab if log_rank > math.log(n_vocab) else int(math.exp(log_rank))
