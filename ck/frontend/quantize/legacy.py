"""Blocks of 32 numbers with a scale of their own: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

    Q8_0          x ~ d * q                 d f16, then 32 int8
    Q4_0, Q5_0    x ~ d * (q - half)        d f16, q 0 to 2 half - 1, half 8 or 16
    Q4_1, Q5_1    x ~ d * q + m             d, m f16, q 0 to 15 or 31

Byte i of q has the lower 4 bits of q[i] and above them those of q[i + 16]; with 5 bits, 4 bytes before them
have the upper bits, q[0]'s lowest. d is that of the number furthest from 0, or of the distance between the
ends. With an importance matrix scale and offset are searched for: a number weighs its column's weight times
sqrt(mean x^2 + x^2), the mean being the row's.

Source: ggml's block_q4_0 and the others, and their quantisers.
"""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.lines import WEIGHTED, find_lines
from ck.frontend.quantize.rounding import Numbers, furthest, halves, in_columns, least
from ck.frontend.quantize.scales import find_scales

_WIDTH = 32
Bytes = NDArray[np.uint8]


def q8_0(rows: Numbers, weights: Numbers | None = None) -> Bytes:
    """Rows [n, K] of finite numbers, as blocks of 34 bytes; no weight changes them."""
    x = in_columns(rows, _WIDTH)
    d = np.abs(x).max(0) / np.float32(127)
    q = _divided(x, d, 0)
    whole = np.trunc(q)
    # To the nearest, ties away from 0.
    q = whole + np.copysign(np.float32(1), q) * (np.abs(q - whole) >= np.float32(0.5))
    return np.concatenate([halves(d), q.astype(np.int8).view(np.uint8).T], axis=1)


def q4_0(rows: Numbers, weights: Numbers | None = None) -> Bytes:
    """Blocks of 18 bytes; `weights` [K] of an importance matrix."""
    d, q = _scaled(rows, weights, 8)
    return np.concatenate([halves(d), _nibbles(q)], axis=1)


def q5_0(rows: Numbers, weights: Numbers | None = None) -> Bytes:
    """Blocks of 22 bytes."""
    d, q = _scaled(rows, weights, 16)
    return np.concatenate([halves(d), _fifth_bits(q), _nibbles(q)], axis=1)


def q4_1(rows: Numbers, weights: Numbers | None = None) -> Bytes:
    """Blocks of 20 bytes."""
    d, m, q = _lined(rows, weights, 15)
    return np.concatenate([halves(d), halves(m), _nibbles(q)], axis=1)


def q5_1(rows: Numbers, weights: Numbers | None = None) -> Bytes:
    """Blocks of 24 bytes."""
    d, m, q = _lined(rows, weights, 31)
    return np.concatenate([halves(d), halves(m), _fifth_bits(q), _nibbles(q)], axis=1)


def _scaled(rows: Numbers, weights: Numbers | None, half: int) -> tuple[Numbers, Bytes]:
    """d [n] and q [32, n]."""
    x = in_columns(rows, _WIDTH)
    if weights is not None:
        found = find_scales(x, _weighted(rows, x, weights), half)
        return found.scale, found.q.astype(np.uint8)
    d = furthest(x) / np.float32(-half)
    q = _divided(x, d, half + 0.5)
    return d, np.minimum(q.astype(np.uint8), np.uint8(2 * half - 1))


def _lined(rows: Numbers, weights: Numbers | None, top: int) -> tuple[Numbers, Numbers, Bytes]:
    """d [n], m [n] and q [32, n]."""
    x = in_columns(rows, _WIDTH)
    if weights is not None:
        lines = find_lines(x, _weighted(rows, x, weights), top, WEIGHTED)
        return lines.scale, -lines.offset, lines.q.astype(np.uint8)
    m = least(x)
    d = (x.max(0) - m) / np.float32(top)
    q = _divided(x - m, d, 0.5)
    return d, m, np.minimum(q.astype(np.uint8), np.uint8(top))


def _divided(x: Numbers, d: Numbers, shift: float) -> Numbers:
    """x / d + shift; where d is 0 that is shift, and where d is so small that 1 / d is beyond f32, 0."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = 1 / d
    finite = np.isfinite(inverse)
    q = x * np.where(finite, inverse, np.float32(0))
    q += np.float32(shift)
    q[:, ~finite & (d != 0)] = 0
    return q


def _weighted(rows: Numbers, x: Numbers, weights: Numbers) -> Numbers:
    """The weights [32, n] of the numbers."""
    columns = np.ascontiguousarray(rows.T)
    spread = (columns * columns).sum(0) / np.float32(len(columns))
    per_row = len(columns) // _WIDTH
    return np.tile(in_columns(weights, _WIDTH), len(rows)) * np.sqrt(np.repeat(spread, per_row) + x * x)


def _nibbles(q: Bytes) -> Bytes:
    return (q[: _WIDTH // 2] & 15 | q[_WIDTH // 2 :] << 4).astype(np.uint8).T


def _fifth_bits(q: Bytes) -> Bytes:
    return np.packbits(q >> 4 & 1, axis=0, bitorder="little").T
