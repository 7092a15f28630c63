"""`ck.softcap` and `ck.softcap_bwd`"""

import numpy as np

from ck.ir.ops.softcap import SoftcapBwdOp, SoftcapOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    SoftcapOp,
    samples=(
        Sample((tensor(1, 17),), {"cap": 30.0}),
        Sample((tensor(3, 65),), {"cap": 50.0}),
        Sample((tensor(5, 128),), {"cap": 0.5}),
    ),
    refusals=(Refusal(Sample((tensor(3),), {"cap": 30.0}), r"operands are \[T, D\]"),),
    # The quotient and the product round once each, tanh is good to 4 units.
    roundings=lambda x, y: 6 * np.abs(y),
)

BWD = OpCase(
    SoftcapBwdOp,
    samples=(
        Sample((tensor(1, 17), tensor(1, 17)), {"cap": 30.0}),
        Sample((tensor(3, 65), tensor(3, 65)), {"cap": 50.0}),
        Sample((tensor(5, 128), tensor(5, 128)), {"cap": 0.5}),
    ),
    refusals=(Refusal(Sample((tensor(2, 3), tensor(2, 4)), {"cap": 30.0}), "operands have one type, got"),),
    # 1 - t * t: t is good to 5 units, its square to 11, all of at most 1; then two roundings more.
    roundings=lambda x, dy, dx: 13 * np.abs(dy),
)
