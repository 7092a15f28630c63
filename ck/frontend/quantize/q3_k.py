"""Q3_K: blocks of 256 numbers in 16 groups of 16, each number 3 bits, x ~ d * (scale[g] - 32) * (q - 4).

    q       upper bits first, 32 bytes: bit k of byte i has that of q[32 k + i]; then lower 2 bits, 64 bytes:
            byte 32 h + i has those of q[128 h + i + 32 k], k = 0 lowest
    scale   0 to 63, 12 bytes: byte g of the first 8 has the lower 4 bits of scale g and above them those of
            scale g + 8; byte g of the last 4 has the upper 2 bits of scales g + 4 k, k = 0 lowest
    d       f16, of the whole block

A group's numbers weigh x^2; they are moved one by one as long as that leaves less of the error. With an
importance matrix they weigh their column's weight times sqrt(2 mean x^2 + x^2), and 19 roundings are tried.
Source: ggml's block_q3_K, its quantisers and make_q3_quants.
"""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.groups_of_lines import weighted
from ck.frontend.quantize.rounding import Numbers, furthest, halves, in_columns, nearest, quarters, round_into
from ck.frontend.quantize.scales import NOTHING, Scales, find_scales

_GROUPS, _WIDTH, _HALF = 16, 16, 4
_ROUNDS = 5


def q3_k(blocks: Numbers, weights: Numbers | None = None) -> NDArray[np.uint8]:
    """Blocks [n, 256] of finite numbers as 110 bytes each; `weights` [n, 256] of an importance matrix."""
    x = in_columns(blocks, _WIDTH)
    if weights is None:
        found = _moved_scales(x)
        d, scale = _by_largest(_of_blocks(found.scale))
    else:
        w = weighted(blocks, x, weights, _WIDTH, 2)
        found = find_scales(x, w, _HALF)
        whole = find_scales(_of_blocks(found.scale), _of_blocks(w.sum(0)), 32)
        d, scale = whole.scale, whole.q.astype(np.uint8)
    step = (d.astype(np.float16).astype(np.float32) * (scale.astype(np.int8) - 32)).T.reshape(-1)
    # A group whose step is too small for its bits keeps the rounding of its own scale.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        q = np.where(step != 0, round_into(x / step, -_HALF, _HALF - 1) + np.float32(_HALF), found.q)
    q = q.astype(np.uint8).T.reshape(-1, 8, 32)
    upper = np.packbits(q >> 2, axis=1, bitorder="little").reshape(len(blocks), -1)
    return np.concatenate([upper, quarters((q & 3).astype(np.uint8)), _packed(scale), halves(d)], axis=1)


def _of_blocks(of_groups: Numbers) -> Numbers:
    return np.ascontiguousarray(of_groups.reshape(-1, _GROUPS).T)


def _by_largest(scales: Numbers) -> tuple[Numbers, NDArray[np.uint8]]:
    """d [n] and the scales [16, n] in it; where all are 0, that is d, and so are their bytes."""
    largest = furthest(scales)
    inverse = np.divide(np.float32(-32), largest, out=np.zeros_like(largest), where=largest != 0)
    d = np.divide(np.float32(1), inverse, out=np.zeros_like(inverse), where=largest != 0)
    levels = np.clip(nearest(inverse * scales), -32, 31) + 32
    return d, np.where(largest != 0, levels, 0).astype(np.uint8)


def _moved_scales(x: Numbers) -> Scales:
    """The scales of groups x [16, n]."""
    most = furthest(x)
    some = np.abs(most) >= NOTHING
    w = x * x
    wx = w * x
    q = x * (np.float32(-_HALF) / np.where(some, most, np.float32(1)))
    round_into(q, -_HALF, _HALF - 1)
    sums = (wx * q).sum(0), (w * q * q).sum(0)
    for _ in range(_ROUNDS):
        before = q.copy()
        for i in range(_WIDTH):
            sums = _move(x[i], w[i], wx[i], q[i], sums)
        if np.array_equal(q, before):
            break
    sum_qx, sum_qq = sums
    scale = np.divide(sum_qx, sum_qq, out=np.zeros_like(sum_qx), where=sum_qq > 0)
    return Scales(np.where(some, scale, np.float32(0)), np.where(some, q + np.float32(_HALF), np.float32(0)))


def _move(
    x: Numbers, w: Numbers, wx: Numbers, q: Numbers, sums: tuple[Numbers, Numbers]
) -> tuple[Numbers, Numbers]:
    """Move one number of each group, in place, where that leaves less of the error; the sums after that."""
    sum_qx, sum_qq = sums
    rest_qx, rest_qq = sum_qx - wx * q, sum_qq - w * q * q
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        moved = np.clip(nearest(x * rest_qq / rest_qx), -_HALF, _HALF - 1).astype(np.float32)
    new_qx, new_qq = rest_qx + wx * moved, rest_qq + w * moved * moved
    better = (rest_qx > 0) & (moved != q) & (new_qq > 0)
    better &= new_qx * new_qx * sum_qq > sum_qx * sum_qx * new_qq
    np.copyto(q, moved, where=better)
    return np.where(better, new_qx, sum_qx), np.where(better, new_qq, sum_qq)


def _packed(scale: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """12 bytes a block of scales [16, n]."""
    lower = scale[:8] & 15 | (scale[8:] & 15) << 4
    first, second, third, fourth = (scale >> 4).reshape(4, 4, -1)
    upper = first | second << 2 | third << 4 | fourth << 6
    return np.concatenate([lower, upper]).astype(np.uint8).T
