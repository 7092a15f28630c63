"""Blocks of 256 numbers in 8 groups of 32, x ~ d * scale[g] * q - m * offset[g]: what Q4_K and Q5_K share.

    d, m            f16, of the whole block
    scale, offset   6 bits a group

A group's numbers weigh sqrt(mean x^2) + |x| or, with an importance matrix, their column's weight times
sqrt(2 mean x^2 + x^2), the mean being the block's. Offsets do not add. Source: ggml's block_q4_K, block_q5_K
and their quantisers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.lines import WEIGHTED, Search, find_lines
from ck.frontend.quantize.rounding import Numbers, halves, in_columns, round_into
from ck.frontend.quantize.six_bits import by_error, by_largest, packed

GROUPS, WIDTH = 8, 32
BLOCK = GROUPS * WIDTH


@dataclass(frozen=True)
class Groups:
    """`head`: d, m, scales and offsets, 16 bytes a block; q [n, 8, 32]."""

    head: NDArray[np.uint8]
    q: NDArray[np.uint8]


def find_groups(blocks: Numbers, weights: Numbers | None, top: int, search: Search) -> Groups:
    """Blocks [n, 256] with q from 0 to `top`; `weights` [n, 256] of an importance matrix."""
    x = in_columns(blocks, WIDTH)
    if weights is None:
        w = np.sqrt((x * x).sum(0) / np.float32(WIDTH)) + np.abs(x)
        lines = find_lines(x, w, top, search)
        parts = [by_largest(_of_blocks(each)) for each in (lines.scale, lines.offset)]
    else:
        w = _weighted(blocks, x, weights)
        lines, total = find_lines(x, w, top, WEIGHTED), _of_blocks(w.sum(0))
        parts = [by_error(_of_blocks(each), total) for each in (lines.scale, lines.offset)]
    (d, scale), (m, offset) = parts
    d, m = d.astype(np.float16), m.astype(np.float16)
    step, low = (_of_groups(unit, level) for unit, level in ((d, scale), (m, offset)))
    # A group whose step is too small for 6 bits keeps the rounding of its own line.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        q = np.where(step != 0, round_into((x + low) / step, 0, top), lines.q)
    head = np.concatenate([halves(d), halves(m), packed(scale, offset)], axis=1)
    return Groups(head, q.astype(np.uint8).T.reshape(-1, GROUPS, WIDTH))


def _weighted(blocks: Numbers, x: Numbers, weights: Numbers) -> Numbers:
    """The weights [32, 8 n] of the numbers."""
    whole = in_columns(blocks, BLOCK)
    spread = np.float32(2) * (whole * whole).sum(0) / np.float32(BLOCK)
    return in_columns(weights, WIDTH) * np.sqrt(np.repeat(spread, GROUPS) + x * x)


def _of_blocks(of_groups: Numbers) -> Numbers:
    """What groups have [8 n] as [8, n]."""
    return np.ascontiguousarray(of_groups.reshape(-1, GROUPS).T)


def _of_groups(unit: NDArray[np.float16], level: NDArray[np.uint8]) -> Numbers:
    """unit * level [8 n]."""
    return (unit.astype(np.float32) * level).T.reshape(-1)
