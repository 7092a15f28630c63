"""Q6_K: blocks of 256 numbers in 16 groups of 16, each number 6 bits, x ~ d * scale[g] * (q - 32).

    q       lower 4 bits: byte 64 h + i of the first 128 has those of q[128 h + i] and
            above them of q[128 h + 64 + i];
            upper 2 bits: byte 32 h + i of the next 64 has those of q[128 h + i + 32 k], k = 0 lowest
    scale   int8 a group, d f16 of the whole block

A group's numbers weigh x^2 or, with an importance matrix, what their columns do.
Source: ggml's block_q6_K and its quantisers.
"""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.rounding import Numbers, furthest, halves, in_columns, nearest, round_into
from ck.frontend.quantize.scales import NOTHING, find_scales

_GROUPS, _WIDTH, _HALF = 16, 16, 32


def q6_k(blocks: Numbers, weights: Numbers | None = None) -> NDArray[np.uint8]:
    """Blocks [n, 256] of finite numbers as 210 bytes each; `weights` [n, 256] of an importance matrix."""
    x = in_columns(blocks, _WIDTH)
    found = find_scales(x, x * x if weights is None else in_columns(weights, _WIDTH), _HALF)
    scales = np.ascontiguousarray(found.scale.reshape(-1, _GROUPS).T)
    largest = furthest(scales)
    some = np.abs(largest) >= NOTHING
    inverse = np.float32(-128) / np.where(some, largest, np.float32(1))
    d = (1 / inverse).astype(np.float16)
    scale = np.minimum(nearest(inverse * scales), 127).astype(np.int8).T
    step = (d.astype(np.float32)[:, None] * scale).reshape(-1)
    # A group whose step is too small for f16 keeps the rounding of its own scale.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        q = np.where(step != 0, round_into(x / step, -_HALF, _HALF - 1) + np.float32(_HALF), found.q)
    packed = _packed(q.astype(np.uint8).T)
    bytes_ = np.concatenate([packed, np.ascontiguousarray(scale).view(np.uint8), halves(d)], axis=1)
    return np.where(some[:, None], bytes_, np.uint8(0))


def _packed(q: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """192 bytes a block."""
    parts = q.reshape(-1, 2, 4, 32)
    lower = parts[:, :, :2] & 15 | (parts[:, :, 2:] & 15) << 4
    first, second, third, fourth = (parts[:, :, k] >> 4 for k in range(4))
    upper = first | second << 2 | third << 4 | fourth << 6
    return np.concatenate([lower.reshape(-1, 128), upper.reshape(-1, 64)], axis=1).astype(np.uint8)
