"""The scale a of each group for which a * (q - half), with q from 0 to 2 half - 1, is nearest to it.

Each of 19 roundings is fitted by least squares with the numbers' weights; the one that leaves the least error
is taken. Source: ggml's make_qx_quants.
"""

from dataclasses import dataclass

import numpy as np

from ck.frontend.quantize.rounding import Numbers, furthest, round_into

# A group whose numbers are all below this is zero.
NOTHING = np.float32(1e-15)


@dataclass(frozen=True)
class Scales:
    """Of each group [n]: scale a; of each number [width, n]: q. A group of zeros has the scale 0 and q 0."""

    scale: Numbers
    q: Numbers


def find_scales(x: Numbers, w: Numbers, half: int) -> Scales:
    """The scales of groups x [width, n] with weights w."""
    most = furthest(x)
    some = np.abs(most) >= NOTHING
    most = np.where(some, most, np.float32(1))
    wx, q = w * x, np.empty_like(x)
    scratch = np.empty_like(x)
    scale, best, inverse = np.zeros_like(most), np.zeros_like(most), np.zeros_like(most)
    for step in (0, *range(-9, 0), *range(1, 10)):
        # The number furthest from 0 becomes -half, or near it.
        tried = -(np.float32(half) + np.float32(0.1) * np.float32(step)) / most
        _round(x, tried, half, q)
        sum_qx = np.multiply(wx, q, out=scratch).sum(0)
        np.multiply(w, q, out=scratch)
        sum_qq = np.multiply(scratch, q, out=scratch).sum(0)
        better = (sum_qq > 0) & (sum_qx * sum_qx > best * sum_qq) if step else np.ones_like(some)
        fitted = np.divide(sum_qx, sum_qq, out=np.zeros_like(sum_qq), where=sum_qq != 0)
        scale, best = np.where(better, fitted, scale), np.where(better, fitted * sum_qx, best)
        inverse = np.where(better, tried, inverse)
    _round(x, inverse, half, q)
    q += np.float32(half)
    return Scales(np.where(some, scale, np.float32(0)), np.where(some, q, np.float32(0)))


def _round(x: Numbers, inverse: Numbers, half: int, q: Numbers) -> None:
    """Set q to the rounding of x * inverse."""
    np.multiply(x, inverse, out=q)
    round_into(q, -half, half - 1)
