"""`ck.scale`"""

import numpy as np

from ck.ir.ops.scale import ScaleOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    ScaleOp,
    samples=(
        Sample((tensor(1, 17),), {"factor": 25.298221}),
        Sample((tensor(3, 65),), {"factor": -0.5}),
        Sample((tensor(5, 128),), {"factor": 0.0}),
    ),
    refusals=(
        Refusal(Sample((tensor(3),), {"factor": 1.0}), r"operands are \[T, D\]"),
        Refusal(Sample((tensor(3, 3),), {"factor": 2}), "should be of base attribute"),
    ),
    roundings=lambda x, y: np.abs(y),
)
