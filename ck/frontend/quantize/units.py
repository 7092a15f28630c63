"""Numbers of 0 or more in few bits and one unit: scales and offsets of Q2_K, Q4_K and Q5_K.

The unit is that of the largest number; where there are weights, the numbers are then moved one by one as long
as the weighted square of the error falls. Source: ggml's make_qp_quants and block_q4_K.
"""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.rounding import Numbers, nearest
from ck.frontend.quantize.scales import NOTHING

_ROUNDS = 5
Levels = NDArray[np.uint8]


def by_largest(parts: Numbers, top: int) -> tuple[Numbers, Levels]:
    """The unit of each column of `parts` [groups, n], and their numbers in it, 0 to `top`."""
    most = np.maximum(parts.max(0), np.float32(0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.where(most > 0, np.float32(top) / most, np.float32(0))
        levels = nearest(inverse * parts).astype(np.uint8)
    return most / np.float32(top), np.minimum(levels, np.uint8(top))


def by_error(parts: Numbers, w: Numbers, top: int) -> tuple[Numbers, Levels]:
    """The same with weights w [groups, n]."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _by_error(parts, w, top)


def _by_error(x: Numbers, w: Numbers, top: int) -> tuple[Numbers, Levels]:
    most = np.maximum(x.max(0), np.float32(0))
    some = most >= NOTHING
    most = np.where(some, most, np.float32(1))
    q = nearest(_start(x, w, most, top) * x)
    q = np.minimum(q, top).astype(np.uint8)
    wx, levels = w * x, q.astype(np.float32)
    sum_qx, sum_qq = (wx * levels).sum(0), (w * levels * levels).sum(0)
    for _ in range(_ROUNDS):
        before = q.copy()
        for i in range(len(x)):
            sum_qx, sum_qq, q[i] = _moved(x[i], w[i], q[i], (sum_qx, sum_qq), top)
        if np.array_equal(q, before):
            break
    unit = np.divide(sum_qx, sum_qq, out=np.zeros_like(sum_qx), where=sum_qq > 0)
    return np.where(some, unit, np.float32(0)), np.where(some, q, np.uint8(0))


def _start(x: Numbers, w: Numbers, most: Numbers, top: int) -> Numbers:
    """The inverse of the best of nine units."""
    inverse = np.float32(top) / most
    # The first rounding is not cut off, as it need not be.
    q = nearest(inverse * x).astype(np.uint8).astype(np.float32)
    best = _square(x - 1 / inverse * q, w)
    for step in (*range(-4, 0), *range(1, 5)):
        tried = (np.float32(0.1) * np.float32(step) + np.float32(top)) / most
        q = np.minimum(nearest(tried * x), top).astype(np.float32)
        error = _square(x - 1 / tried * q, w)
        better = error < best
        best, inverse = np.where(better, error, best), np.where(better, tried, inverse)
    return inverse


def _square(difference: Numbers, w: Numbers) -> Numbers:
    return (w * difference * difference).sum(0)


def _moved(
    x: Numbers, w: Numbers, q: Levels, sums: tuple[Numbers, Numbers], top: int
) -> tuple[Numbers, Numbers, Levels]:
    """The sums and one number of each column, moved where that leaves less of the error."""
    sum_qx, sum_qq = sums
    wx, level = w * x, q.astype(np.float32)
    rest_qx, rest_qq = sum_qx - wx * level, sum_qq - w * level * level
    moved = np.minimum(nearest(x * rest_qq / rest_qx), top)
    level = moved.astype(np.float32)
    new_qx, new_qq = rest_qx + wx * level, rest_qq + w * level * level
    better = (rest_qx > 0) & (rest_qq > 0) & (moved != q)
    better &= new_qx * new_qx * sum_qq > sum_qx * sum_qx * new_qq
    return (
        np.where(better, new_qx, sum_qx),
        np.where(better, new_qq, sum_qq),
        np.where(better, moved.astype(np.uint8), q),
    )
