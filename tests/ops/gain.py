"""`ck.gain`, in both forms"""

import numpy as np

from ck.ir.ops.gain import GainOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    GainOp,
    samples=(
        Sample((tensor(1, 17), tensor(17)), {"form": "w"}),
        Sample((tensor(3, 65), tensor(65)), {"form": "w"}),
        Sample((tensor(5, 128), tensor(128)), {"form": "w"}),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 3), tensor(4)), {"form": "w"}), r"x is \[T, D\] and w is \[D\], got"),
        Refusal(Sample((tensor(3), tensor()), {"form": "w"}), r"x is \[T, D\] and w is \[D\], got"),
        Refusal(Sample((tensor(2, 3), tensor(3)), {"form": "exp"}), "form is one of w, neg_exp, got exp"),
    ),
    roundings=lambda x, w, y: np.abs(y),
)

NEG_EXP = OpCase(
    GainOp,
    samples=(
        Sample((tensor(1, 17), tensor(17)), {"form": "neg_exp"}),
        Sample((tensor(3, 65), tensor(65)), {"form": "neg_exp"}),
        Sample((tensor(5, 128), tensor(128)), {"form": "neg_exp"}),
    ),
    refusals=(),
    # exp is good to 2 units.
    roundings=lambda x, w, y: 3 * np.abs(y),
    # Larger ones reach infinity.
    scales=(1.0, 15.0, 1e-4),
)
