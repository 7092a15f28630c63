"""llama3's scaling of a rotary embedding: four numbers in transformers, a divisor a frequency in GGUF files.

    t[i]  = context f[i] / 2 pi                     turns of frequency f[i] in the context before the scaling
    s[i]  = (t[i] - low) / (high - low), from 0 to 1
    d[i]  = 1 / ((1 - s[i]) / factor + s[i])        what f[i] is divided by

Source: Llama 3.1's published code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.frontend.rope import exponents


@dataclass(frozen=True)
class Llama3:
    """The numbers of which llama3's divisors are made, as transformers names them."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def divisors(self, base: float, dims: int) -> tuple[float, ...]:
        """What each frequency is divided by, f32: 1 for high frequencies, `factor` for low ones."""
        plain = 1.0 / base ** exponents(dims).astype(np.float64)
        turns = self.original_context * plain / (2 * math.pi)
        smooth = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = np.clip(smooth, 0, 1)
        made: list[float] = (1 / ((1 - kept) / self.factor + kept)).astype(np.float32).tolist()
        return tuple(made)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and start of the line through some points, by least squares."""
    from_mean = x - x.mean()
    slope = float((from_mean * y).sum() / (from_mean * from_mean).sum())
    return slope, float(y.mean() - slope * x.mean())


def llama3_of(divisors: Sequence[float], base: float) -> Llama3 | None:
    """The numbers that make these divisors within 1e-5; None when there are none.

    Only their ratios count: low_freq_factor is 1, as in every published model. Where the divisors do not tell
    the others, they are those of Llama 3.1.
    """
    plain = 1.0 / base ** exponents(2 * len(divisors)).astype(np.float64)
    given: Any = np.array(divisors, np.float64)
    factor = float(given.max())
    if not factor > 1:
        return None
    kept = (1 / given - 1 / factor) / (1 - 1 / factor)
    rising = (kept > 1e-4) & (kept < 1 - 1e-4)
    candidates = [Llama3(factor, 1.0, 4.0, 8192)]
    if rising.sum() > 1:
        # kept = (context f / 2 pi - 1) / (high - 1): a line.
        slope, start = _line(plain[rising] / (2 * math.pi), kept[rising])
        high = round(1 - 1 / start, 3)
        candidates.append(Llama3(factor, 1.0, high, round(slope * (high - 1))))
    for found in candidates:
        if found.high_freq_factor > 1 and found.original_context > 0:
            again = np.array(found.divisors(base, 2 * len(divisors)))
            if np.allclose(again, given, rtol=1e-5, atol=0):
                return found
    return None
