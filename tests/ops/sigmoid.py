"""`ck.sigmoid` and `ck.sigmoid_bwd`"""

import numpy as np

from ck.ir.ops.sigmoid import SigmoidBwdOp, SigmoidOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    SigmoidOp,
    samples=(Sample((tensor(1, 17),)), Sample((tensor(3, 65),)), Sample((tensor(5, 128),))),
    refusals=(Refusal(Sample((tensor(3),)), r"operands are \[T, D\]"),),
    # exp is good to 2 units, the sum and the quotient round once each.
    roundings=lambda x, y: 4 * np.abs(y),
)

BWD = OpCase(
    SigmoidBwdOp,
    samples=(
        Sample((tensor(1, 17), tensor(1, 17))),
        Sample((tensor(3, 65), tensor(3, 65))),
        Sample((tensor(5, 128), tensor(5, 128))),
    ),
    refusals=(Refusal(Sample((tensor(2, 3), tensor(2, 4))), "operands have one type, got"),),
    # e is good to 2 units, (1 + e)^2 to 2 (e is below 1) + 2 + 1; a quotient and a product more.
    roundings=lambda x, dy, dx: 9 * np.abs(dx),
)
