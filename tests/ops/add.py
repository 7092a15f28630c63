"""`ck.add`"""

import numpy as np

from ck.ir.ops.add import AddOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    AddOp,
    samples=(
        Sample((tensor(1, 17), tensor(1, 17))),
        Sample((tensor(3, 65), tensor(3, 65))),
        Sample((tensor(5, 128), tensor(5, 128))),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 3), tensor(2, 4))), "operands have one type, got"),
        Refusal(Sample((tensor(3), tensor(3))), r"operands are \[T, D\]"),
    ),
    roundings=lambda a, b, y: np.abs(y),
)
