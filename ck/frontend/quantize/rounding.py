"""Arithmetic that every encoder shares, in f32 and in the order of ggml's reference quantisers.

A sum runs over axis 0, one row after the other, and no product is fused with a sum: so each rounding falls as
it does in ggml's own code, and the bytes are the same.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# f32; numpy's own types do not say so of a quotient.
Numbers = NDArray[np.floating]
# 1.5 * 2^23: an f32 that is added to it has no bits left behind the point.
_SHIFT = np.float32(12582912)


def nearest(x: Numbers) -> NDArray[np.int32]:
    """The nearest whole numbers, ties to even; from 2^22 on, and for no number, what ggml's bits say."""
    return ((x + _SHIFT).view(np.int32) & 0x007FFFFF) - 0x00400000


def round_into(x: Numbers, low: float, high: float) -> Numbers:
    """`x`, overwritten by the nearest whole numbers, ties to even, within [low, high]."""
    np.rint(x, out=x)
    np.maximum(x, np.float32(low), out=x)
    return np.minimum(x, np.float32(high), out=x)


def furthest(x: Numbers) -> Numbers:
    """The number of each column that is furthest from 0, the first of equals; 0 of a column of zeros."""
    # Adding 0 takes the sign from a zero.
    return np.take_along_axis(x, np.abs(x).argmax(0)[None], 0)[0] + np.float32(0)


def least(x: Numbers) -> Numbers:
    """The least number of each column, the first of equals."""
    return np.take_along_axis(x, x.argmin(0)[None], 0)[0]


def halves(x: Numbers) -> NDArray[np.uint8]:
    """f16 of each number [n], as [n, 2] bytes."""
    return np.ascontiguousarray(x).astype(np.float16).view(np.uint8).reshape(-1, 2)


def in_columns(values: NDArray[Any], width: int) -> Numbers:
    """Groups of `width` numbers, in order, as columns: [width, n]."""
    return np.ascontiguousarray(values.reshape(-1, width).T)


def quarters(q: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Numbers of 2 bits, 256 a block, as 64 bytes: byte 32 h + i has q[128 h + i + 32 k], k = 0 lowest."""
    first, second, third, fourth = np.moveaxis(q.reshape(-1, 2, 4, 32), 2, 0)
    return (first | second << 2 | third << 4 | fourth << 6).astype(np.uint8).reshape(-1, 64)
