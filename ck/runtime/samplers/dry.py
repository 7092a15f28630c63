"""dry: make a token less likely the longer the repetition is that it would go on with.

    n[t] = the longest end of the text that was there before and was followed by t, without a breaker in it
    l[t] <- l[t] - multiplier * base^(n[t] - allowed)       where n[t] >= allowed

The text is its last N tokens. A breaker is a text that no repetition reaches across: what comes up to the
last token in which one ends does not count, and a token whose own text has one is never made less likely.
llama.cpp finds a breaker over several tokens only where these are what its tokenizer makes of it; ck wherever
it is in the text.

Source: text-generation-webui's pull request 5677, after llama.cpp, src/llama-sampler.cpp.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ck.runtime.samplers.candidates import Candidates, Floats, Ids, Step, bounded

# ln of the largest f32: penalties grow no further.
_MAX_LOG = 88.7228391


@dataclass(frozen=True)
class DrySettings:
    """The formula's numbers, N as `last_n` (-1: all tokens), and the breakers, none of them empty."""

    multiplier: float
    base: float
    allowed: int
    last_n: int
    breakers: tuple[bytes, ...]


class Dry(Step):
    """`piece` gives a token's bytes."""

    def __init__(self, settings: DrySettings, piece: Callable[[int], bytes]) -> None:
        self._settings, self._piece = settings, piece
        maxlen = None if settings.last_n < 0 else settings.last_n
        # Each token, and whether a breaker ends in it.
        self._seen: deque[tuple[int, bool]] = deque(maxlen=maxlen)
        self._text = b""
        self._reach = max(map(len, settings.breakers), default=1) - 1

    def see(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            piece = self._piece(token) if self._settings.breakers else b""
            before, text = len(self._text), self._text + piece
            ends = any(
                text.find(breaker, max(0, before - len(breaker) + 1)) >= 0
                for breaker in self._settings.breakers
            )
            self._seen.append((token, ends))
            self._text = text[max(0, len(text) - self._reach) :]

    def forget(self) -> None:
        self._seen.clear()
        self._text = b""

    def apply(self, row: Candidates) -> Candidates:
        lengths = self._repeats()
        if not lengths:
            return row
        ids = np.array(sorted(lengths), np.int64)
        repeats = np.array([lengths[token] for token in sorted(lengths)], np.float64)

        def penalize(old: Floats, places: Ids) -> Floats:
            return bounded(old, old - self._penalty(repeats[places]))

        return row.changed(ids, penalize)

    def _penalty(self, repeats: Floats) -> Floats:
        settings, powers = self._settings, repeats - self._settings.allowed
        if settings.base > 1.000001:
            powers = np.minimum(powers, int(_MAX_LOG / math.log(settings.base)))
        return settings.multiplier * settings.base**powers

    def _repeats(self) -> dict[int, int]:
        """n[t] of the tokens that are penalized."""
        allowed = self._settings.allowed
        if len(self._seen) <= allowed:
            return {}
        backwards = [token for token, _ in reversed(self._seen)]
        limit = next((n for n, (_, ends) in enumerate(reversed(self._seen)) if ends), len(backwards))
        if limit < allowed:
            return {}
        found = dict[int, int]()
        for n, length in enumerate(prefix_lengths(backwards)[1:], 1):
            token, length = backwards[n - 1], min(length, limit)
            if length >= allowed and length > found.get(token, -1):
                found[token] = length
        return {token: length for token, length in found.items() if not self._breaks(token)}

    def _breaks(self, token: int) -> bool:
        breakers = self._settings.breakers
        return bool(breakers) and any(breaker in self._piece(token) for breaker in breakers)


def prefix_lengths(tokens: Sequence[int]) -> list[int]:
    """Of each place, how many tokens from it on are those that `tokens` begins with; 0 at the first."""
    lengths = [0] * len(tokens)
    # The match that reaches furthest: tokens[left:right] are those at the beginning.
    left = right = 0
    for n in range(1, len(tokens)):
        length = min(lengths[n - left], right - n) if n < right else 0
        while n + length < len(tokens) and tokens[length] == tokens[n + length]:
            length += 1
        lengths[n] = length
        if n + length > right:
            left, right = n, n + length
    return lengths
