"""`ck.rope`"""

from ck.ir.ops.rope import RopeOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

# Positions and frequencies are not trained.
NO_SLOPE = frozenset({"table"})

CASE = OpCase(
    RopeOp,
    samples=(
        Sample((tensor(1, 17 * 2), tensor(1, 34)), {"heads": 1, "mode": "neox"}),
        Sample((tensor(3, 5 * 64), tensor(3, 64)), {"heads": 5, "mode": "interleaved"}),
        # A partial rotation: 18 of 26 columns of a head.
        Sample((tensor(5, 3 * 26), tensor(5, 18)), {"heads": 3, "mode": "neox"}),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 65), tensor(2, 32)), {"heads": 2, "mode": "neox"}), "do not fit table"),
        Refusal(Sample((tensor(2, 64), tensor(1, 32)), {"heads": 2, "mode": "neox"}), "do not fit table"),
        Refusal(Sample((tensor(2, 64), tensor(2, 34)), {"heads": 2, "mode": "neox"}), "do not fit table"),
        Refusal(Sample((tensor(2, 64), tensor(2, 31)), {"heads": 2, "mode": "neox"}), "turn in pairs"),
        Refusal(Sample((tensor(2, 64), tensor(2, 32)), {"heads": 2, "mode": "gptj"}), "mode is one of"),
    ),
    no_slope=NO_SLOPE,
)

INVERSE = OpCase(
    RopeOp,
    samples=(
        Sample((tensor(1, 17 * 2), tensor(1, 34)), {"heads": 1, "mode": "neox_inverse"}),
        Sample((tensor(3, 5 * 64), tensor(3, 64)), {"heads": 5, "mode": "interleaved_inverse"}),
        Sample((tensor(5, 3 * 26), tensor(5, 18)), {"heads": 3, "mode": "neox_inverse"}),
    ),
    refusals=(),
    no_slope=NO_SLOPE,
)
