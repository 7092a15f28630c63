"""`ck.exp`"""

import numpy as np

from ck.ir.ops.exp import ExpOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    ExpOp,
    samples=(Sample((tensor(1, 17),)), Sample((tensor(3, 65),)), Sample((tensor(5, 128),))),
    refusals=(Refusal(Sample((tensor(3),)), r"operands are \[T, D\]"),),
    roundings=lambda x, y: 2 * np.abs(y),
    # Larger ones reach infinity.
    scales=(1.0, 15.0, 1e-4),
)
