"""`ck.l2_norm` and `ck.l2_norm_bwd`"""

import numpy as np

from ck.ir.ops.l2_norm import L2NormBwdOp, L2NormOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    L2NormOp,
    samples=(
        Sample((tensor(1, 17),), {"eps": 1e-6}),
        Sample((tensor(3, 65),), {"eps": 1e-6}),
        Sample((tensor(5, 576),), {"eps": 1e-2}),
    ),
    refusals=(Refusal(Sample((tensor(3),), {"eps": 1e-6}), r"x is \[T, D\], got"),),
    # A sum of D squares, all positive, in D / 64 + 6 roundings; the root halves their error.
    roundings=lambda x, y: (5 + (x.shape[1] / 64 + 8) / 2) * np.abs(y),
)


def slopes_error(x, dy, dx):
    """r has the error of the norm. Of the two terms the second holds a sum, of D products of any sign."""
    r = 1 / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)
    of_r, of_sum = 4 + (x.shape[1] / 64 + 8) / 2, x.shape[1] / 64 + 8
    pull = np.abs(x) * r**2 * np.abs(x * dy).sum(-1, keepdims=True)
    return r * ((of_r + 2) * np.abs(dy) + (3 * of_r + of_sum + 6) * pull)


BWD = OpCase(
    L2NormBwdOp,
    samples=(
        Sample((tensor(1, 17), tensor(1, 17)), {"eps": 1e-6}),
        Sample((tensor(3, 65), tensor(3, 65)), {"eps": 1e-6}),
        Sample((tensor(5, 576), tensor(5, 576)), {"eps": 1e-6}),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 3), tensor(2, 4)), {"eps": 1e-6}), r"x and dy are \[T, D\] of one type"),
        Refusal(Sample((tensor(3), tensor(3)), {"eps": 1e-6}), r"x and dy are \[T, D\] of one type"),
    ),
    roundings=slopes_error,
)
