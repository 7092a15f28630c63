"""Blocks of 256 numbers in groups, x ~ d * scale[g] * q - m * offset[g]: what Q2_K, Q4_K and Q5_K share.

    d, m            f16, of the whole block
    scale, offset   a few bits a group

With an importance matrix a number weighs its column's weight times sqrt(s mean x^2 + x^2), the mean being the
block's. Offsets do not add. Source: ggml's block_q2_K, block_q4_K, block_q5_K and their quantisers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.lines import WEIGHTED, Search, find_lines
from ck.frontend.quantize.rounding import Numbers, halves, in_columns, round_into
from ck.frontend.quantize.units import Levels, by_error, by_largest

BLOCK = 256


@dataclass(frozen=True)
class Form:
    """A type: numbers of a group, the greatest q, and the greatest scale and offset.

    search   without an importance matrix; if it compares errors, numbers weigh |x|, else sqrt(mean x^2) + |x|
    spread   s, with one
    """

    width: int
    top: int
    levels: int
    search: Search
    spread: int


@dataclass(frozen=True)
class Groups:
    """d and m as bytes [n, 2], scales and offsets [groups, n], q [n, groups, width]."""

    d: NDArray[np.uint8]
    m: NDArray[np.uint8]
    scale: Levels
    offset: Levels
    q: NDArray[np.uint8]


def find_groups(blocks: Numbers, weights: Numbers | None, form: Form) -> Groups:
    """Blocks [n, 256] in groups; `weights` [n, 256] of an importance matrix."""
    x = in_columns(blocks, form.width)
    if weights is None:
        lines = find_lines(x, _own_weights(x, form), form.top, form.search)
        parts = [by_largest(_of_blocks(each, form), form.levels) for each in (lines.scale, lines.offset)]
    else:
        w = weighted(blocks, x, weights, form.width, form.spread)
        lines, total = find_lines(x, w, form.top, WEIGHTED), _of_blocks(w.sum(0), form)
        parts = [by_error(_of_blocks(each, form), total, form.levels) for each in (lines.scale, lines.offset)]
    (d, scale), (m, offset) = parts
    step, low = (_of_groups(unit, level) for unit, level in parts)
    # A group whose step is too small for its bits keeps the rounding of its own line.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        q = np.where(step != 0, round_into((x + low) / step, 0, form.top), lines.q)
    return Groups(
        halves(d), halves(m), scale, offset, q.astype(np.uint8).T.reshape(len(blocks), -1, form.width)
    )


def _own_weights(x: Numbers, form: Form) -> Numbers:
    if form.search.absolute:
        return np.abs(x)
    return np.sqrt((x * x).sum(0) / np.float32(form.width)) + np.abs(x)


def weighted(blocks: Numbers, x: Numbers, weights: Numbers, width: int, spread: int) -> Numbers:
    """The weights of the numbers x [width, groups] of blocks [n, 256], by an importance matrix [n, 256]."""
    whole = in_columns(blocks, BLOCK)
    mean = np.float32(spread) * (whole * whole).sum(0) / np.float32(BLOCK)
    return in_columns(weights, width) * np.sqrt(np.repeat(mean, BLOCK // width) + x * x)


def _of_blocks(of_groups: Numbers, form: Form) -> Numbers:
    """What all groups have as [groups of a block, n]."""
    return np.ascontiguousarray(of_groups.reshape(-1, BLOCK // form.width).T)


def _of_groups(unit: Numbers, level: Levels) -> Numbers:
    """unit * level, of all groups, the unit in f16."""
    return (unit.astype(np.float16).astype(np.float32) * level).T.reshape(-1)


def six_bits(scale: Levels, offset: Levels) -> NDArray[np.uint8]:
    """12 bytes a block: of numbers 4 to 7 the upper 2 bits lie above numbers 0 to 3."""
    upper = np.concatenate([scale[4:] >> 4 << 6, offset[4:] >> 4 << 6])
    lower = np.concatenate([scale[:4], offset[:4]])
    last = scale[4:] & 15 | (offset[4:] & 15) << 4
    return np.concatenate([lower | upper, last]).astype(np.uint8).T
