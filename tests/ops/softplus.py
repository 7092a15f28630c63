"""`ck.softplus`"""

import numpy as np

from ck.ir.ops.softplus import SoftplusOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    SoftplusOp,
    samples=(Sample((tensor(1, 17),)), Sample((tensor(3, 65),)), Sample((tensor(5, 128),))),
    refusals=(Refusal(Sample((tensor(3),)), r"operands are \[T, D\]"),),
    # e is good to 2 units, the logarithm to 1, the quotient to 3; two sums of what is not negative.
    roundings=lambda x, y: 6 * np.abs(y),
)
