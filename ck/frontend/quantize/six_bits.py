"""Numbers of 0 or more in 6 bits and one f16 unit, eight at a time: scales and offsets of Q4_K and Q5_K.

The unit is that of the largest number; where there are weights, the numbers are then moved one by one as long
as the weighted square of the error falls. Source: ggml's make_qp_quants and block_q4_K.
"""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.rounding import Numbers, nearest
from ck.frontend.quantize.scales import NOTHING

_TOP = 63
_ROUNDS = 5
Levels = NDArray[np.uint8]


def by_largest(parts: Numbers) -> tuple[Numbers, Levels]:
    """The unit of each column of `parts` [8, n], and their numbers in it."""
    most = np.maximum(parts.max(0), np.float32(0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.where(most > 0, np.float32(_TOP) / most, np.float32(0))
        levels = nearest(inverse * parts).astype(np.uint8)
    return most / np.float32(_TOP), np.minimum(levels, np.uint8(_TOP))


def by_error(parts: Numbers, w: Numbers) -> tuple[Numbers, Levels]:
    """The same with weights w [8, n]."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _by_error(parts, w)


def _by_error(x: Numbers, w: Numbers) -> tuple[Numbers, Levels]:
    most = np.maximum(x.max(0), np.float32(0))
    some = most >= NOTHING
    most = np.where(some, most, np.float32(1))
    q = nearest(_start(x, w, most) * x)
    q = np.minimum(q, _TOP).astype(np.uint8)
    wx, levels = w * x, q.astype(np.float32)
    sum_qx, sum_qq = (wx * levels).sum(0), (w * levels * levels).sum(0)
    for _ in range(_ROUNDS):
        before = q.copy()
        for i in range(len(x)):
            sum_qx, sum_qq, q[i] = _moved(x[i], w[i], q[i], sum_qx, sum_qq)
        if np.array_equal(q, before):
            break
    unit = np.divide(sum_qx, sum_qq, out=np.zeros_like(sum_qx), where=sum_qq > 0)
    return np.where(some, unit, np.float32(0)), np.where(some, q, np.uint8(0))


def _start(x: Numbers, w: Numbers, most: Numbers) -> Numbers:
    """The inverse of the best of nine units."""
    inverse = np.float32(_TOP) / most
    # The first rounding is not cut off, as it need not be.
    q = nearest(inverse * x).astype(np.uint8).astype(np.float32)
    best = _square(x - 1 / inverse * q, w)
    for step in (*range(-4, 0), *range(1, 5)):
        tried = (np.float32(0.1) * np.float32(step) + np.float32(_TOP)) / most
        q = np.minimum(nearest(tried * x), _TOP).astype(np.float32)
        error = _square(x - 1 / tried * q, w)
        better = error < best
        best, inverse = np.where(better, error, best), np.where(better, tried, inverse)
    return inverse


def _square(difference: Numbers, w: Numbers) -> Numbers:
    return (w * difference * difference).sum(0)


def _moved(
    x: Numbers, w: Numbers, q: Levels, sum_qx: Numbers, sum_qq: Numbers
) -> tuple[Numbers, Numbers, Levels]:
    """The sums and one number of each column, moved where that leaves less of the error."""
    wx, level = w * x, q.astype(np.float32)
    rest_qx, rest_qq = sum_qx - wx * level, sum_qq - w * level * level
    moved = np.minimum(nearest(x * rest_qq / rest_qx), _TOP)
    level = moved.astype(np.float32)
    new_qx, new_qq = rest_qx + wx * level, rest_qq + w * level * level
    better = (rest_qx > 0) & (rest_qq > 0) & (moved != q)
    better &= new_qx * new_qx * sum_qq > sum_qx * sum_qx * new_qq
    return (
        np.where(better, new_qx, sum_qx),
        np.where(better, new_qq, sum_qq),
        np.where(better, moved.astype(np.uint8), q),
    )


def packed(scale: Levels, offset: Levels) -> NDArray[np.uint8]:
    """12 bytes a column: numbers 4 to 7 have their upper 2 bits above numbers 0 to 3."""
    upper = np.concatenate([scale[4:] >> 4 << 6, offset[4:] >> 4 << 6])
    lower = np.concatenate([scale[:4], offset[:4]])
    last = scale[4:] & 15 | (offset[4:] & 15) << 4
    return np.concatenate([lower | upper, last]).astype(np.uint8).T
