"""The line a * q - b, with q from 0 to `top` and b >= 0, that is nearest to a group of numbers.

Each rounding that a `Search` names is fitted by least squares with the numbers' weights; the line with the
least weighted squares of errors is taken, or with the least weighted errors. Source: ggml's make_qkx2_quants
and make_qkx3_quants.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.rounding import Numbers, least, round_into


@dataclass(frozen=True)
class Search:
    """Roundings to try: the group's width is top + first + step * k steps, k = 0 ... last.

    absolute   errors are compared, not their squares
    """

    first: float
    step: float
    last: int
    absolute: bool = False


# With weights from an importance matrix, whatever the type.
WEIGHTED = Search(-0.9, 0.05, 36)


@dataclass(frozen=True)
class Lines:
    """Of each group [n]: scale a, offset b; of each number [width, n]: q."""

    scale: Numbers
    offset: Numbers
    q: Numbers


class _Groups:
    """Groups x [width, n] with weights w, their sums, and room for what is computed from them."""

    def __init__(self, x: Numbers, w: Numbers, absolute: bool) -> None:
        self.x, self.w, self._absolute = x, w, absolute
        self._scratch = np.empty_like(x)
        self.sum_w, self.sum_x = w.sum(0), self._sum(w, x)
        self.q = np.empty_like(x)
        self._wq = np.empty_like(x)

    def _sum(self, a: Numbers, b: Numbers) -> Numbers:
        return np.multiply(a, b, out=self._scratch).sum(0)

    def round(self, low: Numbers, inverse: Numbers, top: int) -> None:
        """Set q to the rounding of (x - low) * inverse."""
        np.subtract(self.x, low, out=self.q)
        np.multiply(self.q, inverse, out=self.q)
        round_into(self.q, 0, top)

    def error(self, scale: Numbers, low: Numbers) -> Numbers:
        """sum w (scale q + low - x)^2, or of the absolute value in place of the square."""
        out = np.multiply(self.q, scale, out=self._scratch)
        np.add(out, low, out=out)
        np.subtract(out, self.x, out=out)
        if self._absolute:
            np.abs(out, out=out)
        else:
            np.multiply(out, out, out=out)
        return np.multiply(out, self.w, out=out).sum(0)

    def line(self) -> tuple[Numbers, Numbers, NDArray[np.bool_]]:
        """scale and low <= 0 for which scale q + low is nearest to x; where there are such."""
        wq = np.multiply(self.w, self.q, out=self._wq)
        sum_q, sum_qq, sum_qx = wq.sum(0), self._sum(wq, self.q), self._sum(wq, self.x)
        determinant = self.sum_w * sum_qq - sum_q * sum_q
        scale = (self.sum_w * sum_qx - self.sum_x * sum_q) / determinant
        low = (sum_qq * self.sum_x - sum_q * sum_qx) / determinant
        above = low > 0
        scale = np.where(above, sum_qx / sum_qq, scale)
        return scale, np.where(above, np.float32(0), low), determinant > 0


def find_lines(x: Numbers, w: Numbers, top: int, search: Search) -> Lines:
    """The lines of groups x [width, n] with weights w."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _find_lines(_Groups(x, w, search.absolute), np.float32(top), search)


def _find_lines(groups: _Groups, top: np.float32, search: Search) -> Lines:
    high, low = groups.x.max(0), least(groups.x)
    low = np.where(low > 0, np.float32(0), low)
    # A group of one number, not above 0, is its offset alone.
    spread = high > low
    inverse = top / (high - low)
    scale = np.where(spread, 1 / inverse, np.float32(0))
    inverse = _finite(inverse)
    groups.round(low, inverse, int(top))
    best, start = np.where(spread, groups.error(scale, low), np.float32(-np.inf)), low
    for k in range(search.last + 1):
        levels = np.float32(search.first) + np.float32(search.step) * np.float32(k) + top
        # The next rounding starts at the best line's end.
        tried = _finite(levels / (high - low))
        groups.round(low, tried, int(top))
        a, b, fitted = groups.line()
        error = groups.error(a, b)
        better = fitted & (error < best)
        best, inverse = np.where(better, error, best), np.where(better, tried, inverse)
        start = np.where(better, low, start)
        scale, low = np.where(better, a, scale), np.where(better, b, low)
    groups.round(start, inverse, int(top))
    return Lines(scale, -low, groups.q)


def _finite(inverse: Numbers) -> Numbers:
    """`inverse`, 0 where it is beyond f32: every number of such a group rounds to 0."""
    return np.where(np.isfinite(inverse), inverse, np.float32(0))
