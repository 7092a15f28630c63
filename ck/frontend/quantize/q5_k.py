"""Q5_K: blocks of 256 numbers in 8 groups of 32, each number 5 bits, x ~ d * scale[g] * q - m * offset[g].

    d, m            f16, of the whole block
    scale, offset   6 bits a group, 12 bytes as in Q4_K
    q               0 to 31: bit g of byte i of the first 32 is the upper bit of q[32 g + i]; the lower 4 bits
                    lie behind them as in Q4_K

Source: ggml's block_q5_K. `groups_of_lines` says how the numbers are found.
"""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.groups_of_lines import Form, find_groups, six_bits
from ck.frontend.quantize.lines import Search
from ck.frontend.quantize.rounding import Numbers

_FORM = Form(width=32, top=31, levels=63, search=Search(-0.5, 0.1, 15), spread=2)


def q5_k(blocks: Numbers, weights: Numbers | None = None) -> NDArray[np.uint8]:
    """Blocks [n, 256] of finite numbers as 176 bytes each."""
    found = find_groups(blocks, weights, _FORM)
    upper = np.packbits(found.q >> 4, axis=1, bitorder="little").reshape(len(blocks), -1)
    pairs = (found.q & 15).reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).astype(np.uint8)
    scales = six_bits(found.scale, found.offset)
    return np.concatenate([found.d, found.m, scales, upper, nibbles.reshape(len(blocks), -1)], axis=1)
