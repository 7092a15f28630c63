"""`ck.gelu_tanh`"""

import numpy as np

from ck.ir.ops.gelu_tanh import SQRT_2_OVER_PI, GeluTanhOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    GeluTanhOp,
    samples=(Sample((tensor(1, 17),)), Sample((tensor(3, 65),)), Sample((tensor(5, 128),))),
    refusals=(Refusal(Sample((tensor(3),)), r"operands are \[T, D\]"),),
    # 2u has 6 roundings, and exp turns a relative error of its argument into that times the argument.
    roundings=lambda x, y: np.abs(y) * (4 + 6 * 2 * SQRT_2_OVER_PI * np.abs(x + 0.044715 * x**3)),
)
