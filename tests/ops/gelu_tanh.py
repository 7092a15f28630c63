"""`ck.gelu_tanh` and `ck.gelu_tanh_bwd`"""

import numpy as np

from ck.ir.ops.gelu_tanh import SQRT_2_OVER_PI, GeluTanhBwdOp, GeluTanhOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    GeluTanhOp,
    samples=(Sample((tensor(1, 17),)), Sample((tensor(3, 65),)), Sample((tensor(5, 128),))),
    refusals=(Refusal(Sample((tensor(3),)), r"operands are \[T, D\]"),),
    # 2u has 6 roundings, and exp turns a relative error of its argument into that times the argument.
    roundings=lambda x, y: np.abs(y) * (4 + 6 * 2 * SQRT_2_OVER_PI * np.abs(x + 0.044715 * x**3)),
)


def slope_error(x, dy, dx):
    """s is as good as in the forward op, s (1 - s) as s; u' has 4 roundings of positive terms."""
    u = SQRT_2_OVER_PI * (x + 0.044715 * x**3)
    s = 1 / (1 + np.exp(np.minimum(-2 * u, 700)))
    slope = SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x**2)
    of_s = 4 + 6 * 2 * np.abs(u)
    # 1 - s is good to a unit of 1 and to s's error.
    rest = 2 * np.abs(x) * slope * ((1 - s) * 6 + of_s * s + 1)
    return np.abs(dy) * s * (2 + (of_s + 2) * (1 + 2 * np.abs(x) * slope * (1 - s)) + rest)


BWD = OpCase(
    GeluTanhBwdOp,
    samples=(
        Sample((tensor(1, 17), tensor(1, 17))),
        Sample((tensor(3, 65), tensor(3, 65))),
        Sample((tensor(5, 128), tensor(5, 128))),
    ),
    refusals=(Refusal(Sample((tensor(2, 3), tensor(2, 4))), "operands have one type, got"),),
    roundings=slope_error,
)
