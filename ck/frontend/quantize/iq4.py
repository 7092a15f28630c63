"""IQ4_NL and IQ4_XS: numbers of 4 bits that stand for 16 values, closer together around 0.

    IQ4_NL   blocks of 32, x ~ d * value[q]: d f16; byte i of 16 has q[i] and above it q[i + 16]
    IQ4_XS   blocks of 256 in 8 groups of 32, x ~ d * (scale[g] - 32) * value[q]: d f16; 2 bytes with the
             upper 2 bits of the scales, scale 0's lowest; 4 with the lower 4 bits of two each; q as IQ4_NL

A group's numbers weigh x^2 or, with an importance matrix, their column's weight times sqrt(2 mean x^2 + x^2),
the mean being the block's. 16 scales are tried, each fitted by least squares. Source: ggml's
quantize_row_iq4_nl_impl and its table of values.
"""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.rounding import Numbers, furthest, halves, in_columns, nearest
from ck.frontend.quantize.scales import NOTHING

_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
_WIDTH, _GROUPS, _TRIES = 32, 8, 7
# Half way between two values lies a multiple of 1/2: which value is nearest is the same for all numbers from
# one multiple to the next.
_LOW, _HIGH = int(2 * _VALUES[0]), int(2 * _VALUES[-1])
_NEAREST = np.searchsorted((_VALUES[1:] + _VALUES[:-1]) / 2, np.arange(_LOW, _HIGH + 1) / 2, side="right")


def iq4_nl(rows: Numbers, weights: Numbers | None = None) -> NDArray[np.uint8]:
    """Rows [n, K] of finite numbers as blocks of 18 bytes; `weights` [K] of an importance matrix."""
    x = in_columns(rows, _WIDTH)
    w = None if weights is None else np.tile(in_columns(weights, _WIDTH), len(rows))
    scale = _scales(x, w, (x * x).sum(0))
    q = _index(x * _inverse(scale))
    return np.concatenate([halves(scale), _nibbles(q)], axis=1)


def iq4_xs(blocks: Numbers, weights: Numbers | None = None) -> NDArray[np.uint8]:
    """Blocks [n, 256] of finite numbers as 136 bytes each; `weights` [n, 256] of an importance matrix."""
    x, whole = in_columns(blocks, _WIDTH), in_columns(blocks, _GROUPS * _WIDTH)
    w = None if weights is None else in_columns(weights, _WIDTH)
    squares = np.repeat((whole * whole).sum(0) / np.float32(_GROUPS), _GROUPS)
    scales = np.ascontiguousarray(_scales(x, w, squares).reshape(-1, _GROUPS).T)
    d = furthest(scales) / np.float32(-32)
    level = np.clip(nearest(_inverse(d) * scales), -32, 31)
    # The numbers are divided by a d that is not rounded to f16.
    q = _index(x * _inverse((d * level).astype(np.float32).T.reshape(-1)))
    level = (level + 32).astype(np.uint16)
    upper = (level >> 4 << (2 * np.arange(_GROUPS, dtype=np.uint16))[:, None]).sum(0, np.uint16)
    lower = (level[::2] & 15 | (level[1::2] & 15) << 4).astype(np.uint8).T
    parts = halves(d), upper.view(np.uint8).reshape(-1, 2), lower, _nibbles(q).reshape(len(blocks), -1)
    return np.concatenate(parts, axis=1)


def _scales(x: Numbers, weights: Numbers | None, squares: Numbers) -> Numbers:
    """The scale of each group x [32, n], 0 of zeros; `squares` are 32 times the mean of x^2."""
    most = furthest(x)
    some = np.abs(most) >= NOTHING
    most = np.where(some, most, np.float32(1))
    w = x * x
    if weights is not None:
        w = weights * np.sqrt(squares * np.float32(2 / _WIDTH) + w)
    scale, best = np.zeros_like(most), np.zeros_like(most)
    for step in (None, *range(-_TRIES, _TRIES + 1)):
        inverse = 1 / (-most / _VALUES[0]) if step is None else (np.float32(step) + _VALUES[0]) / most
        value = _VALUES[_index(x * inverse)]
        wq = w * value
        sum_qx, sum_qq = (wq * x).sum(0), (wq * value).sum(0)
        fitted = np.divide(sum_qx, sum_qq, out=np.zeros_like(sum_qx), where=sum_qq > 0)
        better = (sum_qq > 0) & (sum_qx * sum_qx > best * sum_qq) if step is not None else sum_qq > 0
        scale, best = np.where(better, fitted, scale), np.where(better, fitted * sum_qx, best)
    return np.where(some, scale, np.float32(0))


def _inverse(x: Numbers) -> Numbers:
    """1 / x, 0 where x is 0."""
    with np.errstate(over="ignore"):
        return np.divide(np.float32(1), x, out=np.zeros_like(x), where=x != 0)


def _index(x: Numbers) -> NDArray[np.intp]:
    """Which value is nearest, of two the greater; for no number the last."""
    half = np.fmin(x, _VALUES[-1])
    np.maximum(half, _VALUES[0], out=half)
    half *= np.float32(2)
    return _NEAREST[np.floor(half, out=half).astype(np.int16) - _LOW]


def _nibbles(q: NDArray[np.intp]) -> NDArray[np.uint8]:
    return (q[: _WIDTH // 2] | q[_WIDTH // 2 :] << 4).astype(np.uint8).T
