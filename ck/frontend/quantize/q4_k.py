"""Q4_K: blocks of 256 numbers in 8 groups of 32, each number 4 bits, x ~ d * scale[g] * q - m * offset[g].

    d, m            f16, of the whole block
    scale, offset   6 bits a group, 12 bytes: groups 4 to 7 have their upper 2 bits beside groups 0 to 3
    q               0 to 15: byte 32 g + i holds q[64 g + i] and, above it, q[64 g + 32 + i]

Source: ggml's block_q4_K. `groups_of_lines` says how the numbers are found.
"""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.groups_of_lines import Form, find_groups, six_bits
from ck.frontend.quantize.lines import Search
from ck.frontend.quantize.rounding import Numbers

_FORM = Form(width=32, top=15, levels=63, search=Search(-1, 0.1, 20), spread=2)


def q4_k(blocks: Numbers, weights: Numbers | None = None) -> NDArray[np.uint8]:
    """Blocks [n, 256] of finite numbers as 144 bytes each."""
    found = find_groups(blocks, weights, _FORM)
    pairs = found.q.reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).astype(np.uint8)
    scales = six_bits(found.scale, found.offset)
    return np.concatenate([found.d, found.m, scales, nibbles.reshape(len(blocks), -1)], axis=1)
