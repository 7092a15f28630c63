"""`ck.rms_norm` and `ck.rms_norm_bwd`"""

import numpy as np

from ck.ir.ops.rms_norm import RmsNormBwdOp, RmsNormOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    RmsNormOp,
    samples=(
        Sample((tensor(1, 17), tensor(17)), {"eps": 1e-5}),
        Sample((tensor(3, 65), tensor(65)), {"eps": 1e-6}),
        Sample((tensor(5, 576), tensor(576)), {"eps": 1e-5}),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 3), tensor(4)), {"eps": 1e-5}), "have 3 columns, w is"),
        Refusal(Sample((tensor(2, 3), tensor(2, 3)), {"eps": 1e-5}), "have 3 columns, w is"),
    ),
    # A sum of D squares, all positive, in D / 64 + 6 roundings; the root halves the error of the mean.
    roundings=lambda x, w, y: (6 + (x.shape[1] / 64 + 9) / 2) * np.abs(y),
)


def slopes_error(x, w, dy, dx, dw):
    """r has the error of the norm. Of dx's two terms the second holds a sum, of D products of any sign."""
    r = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    of_r, of_sum = 5 + (x.shape[1] / 64 + 9) / 2, x.shape[1] / 64 + 12
    scaled = np.abs(dy * w)
    pull = np.abs(x) * r**2 * np.abs(x * scaled).mean(-1, keepdims=True)
    return r * ((of_r + 3) * scaled + (3 * of_r + of_sum + 7) * pull), (of_r + 2) * np.abs(dw)


def backward(rows: int, columns: int) -> Sample:
    return Sample((tensor(rows, columns), tensor(columns), tensor(rows, columns)), {"eps": 1e-5})


BWD = OpCase(
    RmsNormBwdOp,
    samples=(backward(1, 17), backward(3, 65), backward(5, 576)),
    refusals=(
        Refusal(Sample((tensor(2, 3), tensor(4), tensor(2, 3)), {"eps": 1e-5}), "do not fit"),
        Refusal(Sample((tensor(2, 3), tensor(3), tensor(2, 4)), {"eps": 1e-5}), "do not fit"),
    ),
    roundings=slopes_error,
)
