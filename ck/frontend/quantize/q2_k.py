"""Q2_K: blocks of 256 numbers in 16 groups of 16, each number 2 bits, x ~ d * scale[g] * q - m * offset[g].

    scale, offset   4 bits a group: byte g has the scale and above it the offset
    q               0 to 3: byte 32 h + i of the next 64 has q[128 h + i + 32 k], k = 0 lowest
    d, m            f16, of the whole block

Source: ggml's block_q2_K. `groups_of_lines` says how the numbers are found.
"""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.groups_of_lines import Form, find_groups
from ck.frontend.quantize.lines import Search
from ck.frontend.quantize.rounding import Numbers, quarters

_FORM = Form(width=16, top=3, levels=15, search=Search(-0.5, 0.1, 15, absolute=True), spread=1)


def q2_k(blocks: Numbers, weights: Numbers | None = None) -> NDArray[np.uint8]:
    """Blocks [n, 256] of finite numbers as 84 bytes each."""
    found = find_groups(blocks, weights, _FORM)
    scales = (found.scale | found.offset << 4).astype(np.uint8).T
    return np.concatenate([scales, quarters(found.q), found.d, found.m], axis=1)
