"""Q4_K: blocks of 256 numbers in 8 groups of 32, each number 4 bits, x ~ d * scale[g] * q - m * offset[g].

    d, m            f16, of the whole block
    scale, offset   6 bits a group, 12 bytes: groups 4 to 7 have their upper 2 bits beside groups 0 to 3
    q               0 to 15: byte 32 g + i holds q[64 g + i] and, above it, q[64 g + 32 + i]

A group's line is the best of 21 ways to round the group to 0 ... 15: each is fitted by least squares with the
weights sqrt(mean x^2) + |x|, and offsets do not add. Source: ggml's block_q4_K and its reference quantiser.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]
_GROUPS, _WIDTH, _TOP, _STEPS = 8, 32, 15, 21
# Numbers that are no further apart than this are one number: no f16 is as small.
_NOTHING = 1e-30


def q4_k(values: Numbers) -> NDArray[np.uint8]:
    """Blocks [n, 256] of finite numbers as 144 bytes each."""
    groups = np.ascontiguousarray(values.reshape(-1, _WIDTH).T)
    scales, offsets = (part.reshape(-1, _GROUPS) for part in _lines(groups))
    d, scale = _six_bits(scales)
    m, offset = _six_bits(offsets)
    step, low = (d.astype(np.float32) * scale).reshape(-1), (m.astype(np.float32) * offset).reshape(-1)
    # A group without a step holds zeros.
    inverse = np.divide(1, step, out=np.zeros_like(step), where=step > 0)
    q = _rounded(groups + low, inverse).astype(np.uint8).T
    pairs = q.reshape(-1, _GROUPS // 2, 2, _WIDTH)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(len(values), -1)
    parts = d.view(np.uint8), m.view(np.uint8), _packed(scale, offset), nibbles.astype(np.uint8)
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class _Sums:
    """Sums over each group: of w, w x, w x^2, and with a rounding q of w q, w q^2, w q x."""

    w: Numbers
    x: Numbers
    xx: Numbers
    q: Numbers
    qq: Numbers
    qx: Numbers

    def error(self, a: Numbers, b: Numbers) -> Numbers:
        """sum w (a q + b - x)^2."""
        mixed = a * b * self.q - a * self.qx - b * self.x
        return a * a * self.qq + b * b * self.w + self.xx + 2 * mixed

    def line(self) -> tuple[Numbers, Numbers]:
        """The a and b <= 0 for which a q + b is nearest to x; NaN where q is the same everywhere."""
        determinant = self.w * self.qq - self.q * self.q
        with np.errstate(divide="ignore", invalid="ignore"):
            a = (self.w * self.qx - self.x * self.q) / np.where(determinant > 0, determinant, np.nan)
            b = (self.qq * self.x - self.q * self.qx) / determinant
            return np.where(b > 0, self.qx / self.qq, a), np.minimum(b, 0)


def _lines(x: Numbers) -> tuple[Numbers, Numbers]:
    """scale and offset of every group x[:, g]: x is about scale * q - offset; both are 0 or more."""
    least, most = np.minimum(x.min(0), 0), x.max(0)
    width = most - least
    w = np.sqrt(np.mean(x * x, 0)) + np.abs(x)
    wx = w * x
    constant = w.sum(0), wx.sum(0), (wx * x).sum(0)
    # A group of one number, not above 0, is its offset alone.
    best = np.where(width > _NOTHING, np.float32(np.inf), np.float32(-np.inf))
    scale, low = np.zeros_like(width), least
    for step in range(-1, _STEPS):
        # The first line goes through both ends.
        levels = np.float32(_TOP if step < 0 else _TOP - 1 + 0.1 * step)
        # The next rounding starts at the best line's end.
        reach = most - low
        q = _rounded(x - low, np.divide(levels, reach, out=np.zeros_like(reach), where=reach > _NOTHING))
        wq = w * q
        sums = _Sums(*constant, wq.sum(0), (wq * q).sum(0), (wx * q).sum(0))
        a, b = (width / np.float32(_TOP), least) if step < 0 else sums.line()
        error = sums.error(a, b)
        better = error < best
        best = np.where(better, error, best)
        scale, low = np.where(better, a, scale), np.where(better, b, low)
    return scale, -low


def _rounded(x: Numbers, inverse: Numbers) -> Numbers:
    """The whole numbers from 0 to 15 nearest to x * inverse."""
    q = x * inverse
    np.rint(q, out=q)
    np.maximum(q, 0, out=q)
    return np.minimum(q, _TOP, out=q)


def _six_bits(parts: Numbers) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """The f16 unit [n, 1] of each block, and its groups' parts in it, 0 to 63."""
    most = parts.max(1, keepdims=True)
    unit = (most / 63).astype(np.float16)
    inverse = np.divide(63, most, out=np.zeros_like(most), where=unit > 0)
    return unit, np.minimum(np.rint(parts * inverse), 63).astype(np.uint8)


def _packed(scale: NDArray[np.uint8], offset: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """12 bytes a block."""
    upper = np.concatenate([scale[:, 4:] >> 4 << 6, offset[:, 4:] >> 4 << 6], axis=1)
    lower = np.concatenate([scale[:, :4], offset[:, :4]], axis=1)
    last = scale[:, 4:] & 15 | (offset[:, 4:] & 15) << 4
    return np.concatenate([lower | upper, last], axis=1).astype(np.uint8)
