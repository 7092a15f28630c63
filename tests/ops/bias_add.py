"""`ck.bias_add`"""

import numpy as np

from ck.ir.ops.bias_add import BiasAddOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    BiasAddOp,
    samples=(
        Sample((tensor(1, 17), tensor(17))),
        Sample((tensor(3, 65), tensor(65))),
        Sample((tensor(5, 128), tensor(128))),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 3), tensor(4))), r"x is \[T, D\] and b is \[D\], got"),
        Refusal(Sample((tensor(2, 3), tensor(2, 3))), r"x is \[T, D\] and b is \[D\], got"),
        Refusal(Sample((tensor(3), tensor())), r"x is \[T, D\] and b is \[D\], got"),
    ),
    roundings=lambda x, b, y: np.abs(y),
)
