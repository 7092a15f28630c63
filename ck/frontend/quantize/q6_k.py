"""Q6_K: blocks of 256 numbers in 16 groups of 16, each number 6 bits, x ~ d * scale[g] * (q - 32).

    q       lower 4 bits: byte 64 h + i of the first 128 has those of q[128 h + i] and
            above them of q[128 h + 64 + i];
            upper 2 bits: byte 32 h + i of the next 64 has those of q[128 h + i + 32 k], k = 0 lowest
    scale   int8 a group, d f16 of the whole block

A group's scale is the best of 19 ways to round the group, each fitted by least squares with the weights x^2.
Source: ggml's block_q6_K and its reference quantiser.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
_GROUPS, _WIDTH, _HALF = 16, 16, 32
# A group whose largest number is below this is zero.
_NOTHING = 1e-15


def q6_k(values: Numbers) -> NDArray[np.uint8]:
    """Blocks [n, 256] of finite numbers as 210 bytes each."""
    groups = values.reshape(-1, _WIDTH)
    scales = _scales(groups).reshape(-1, _GROUPS)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(1)[:, None], 1)
    some = np.abs(largest) >= _NOTHING
    inverse = np.divide(-128, largest, out=np.zeros_like(largest), where=some)
    d = np.divide(1, inverse, out=np.zeros_like(inverse), where=some).astype(np.float16)
    scale = np.minimum(np.rint(inverse * scales), 127).astype(np.int8)
    step = (d.astype(np.float32) * scale).reshape(-1, 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        q = np.clip(np.rint(groups / step), -_HALF, _HALF - 1)
    # A group without a step holds zeros; a block without one has all bytes 0.
    q = np.where(step != 0, q, np.repeat(np.where(some, 0, -_HALF), _GROUPS, 0)).astype(np.int8) + _HALF
    return np.concatenate([_packed(q.astype(np.uint8)), scale.view(np.uint8), d.view(np.uint8)], axis=1)


def _scales(groups: Numbers) -> Numbers:
    """The scale of every group; its sign is such that the number furthest from 0 becomes -32."""
    furthest = np.take_along_axis(groups, np.abs(groups).argmax(1)[:, None], 1)[:, 0]
    inverse = np.divide(1, furthest, out=np.zeros_like(furthest), where=np.abs(furthest) >= _NOTHING)
    # Group after group along rows, so that sums run over whole vectors.
    x = np.ascontiguousarray(groups.T)
    w = x * x
    scale, best = np.zeros_like(furthest), np.zeros_like(furthest)
    for step in (0, *range(-9, 0), *range(1, 10)):
        q = x * (-np.float32(_HALF + 0.1 * step) * inverse)
        np.rint(q, out=q)
        np.minimum(q, _HALF - 1, out=q)
        np.maximum(q, -_HALF, out=q)
        wq = w * q
        sum_qx, sum_qq = (wq * x).sum(0), (wq * q).sum(0)
        # The fitted scale leaves sum_qx^2 / sum_qq less of the error.
        fitted = np.divide(sum_qx, sum_qq, out=np.zeros_like(sum_qq), where=sum_qq > 0)
        better = fitted * sum_qx > best
        scale, best = np.where(better, fitted, scale), np.where(better, fitted * sum_qx, best)
    return scale


def _packed(q: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """192 bytes a block."""
    parts = q.reshape(-1, 2, 4, 32)
    lower = parts[:, :, :2] & 15 | (parts[:, :, 2:] & 15) << 4
    first, second, third, fourth = (parts[:, :, k] >> 4 for k in range(4))
    upper = first | second << 2 | third << 4 | fourth << 6
    return np.concatenate([lower.reshape(-1, 128), upper.reshape(-1, 64)], axis=1).astype(np.uint8)
