"""`ck.silu` and `ck.silu_bwd`"""

import numpy as np

from ck.ir.ops.silu import SiluBwdOp, SiluOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    SiluOp,
    samples=(Sample((tensor(1, 17),)), Sample((tensor(3, 65),)), Sample((tensor(5, 128),))),
    refusals=(Refusal(Sample((tensor(3),)), r"operands are \[T, D\]"),),
    # exp is good to 2 units, the sum and the quotient round once each.
    roundings=lambda x, y: 4 * np.abs(y),
)

BWD = OpCase(
    SiluBwdOp,
    samples=(
        Sample((tensor(1, 17), tensor(1, 17))),
        Sample((tensor(3, 65), tensor(3, 65))),
        Sample((tensor(5, 128), tensor(5, 128))),
    ),
    refusals=(Refusal(Sample((tensor(2, 3), tensor(2, 4))), "operands have one type, got"),),
    # s is good to 4 units, 1 - s to 5 units of 1; the bracket cancels where x is negative.
    roundings=lambda x, dy, dx: 12 * np.abs(dy) / (1 + np.exp(-x)) * (1 + np.abs(x)),
)
