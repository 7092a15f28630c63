"""`ck.linear_multi`"""

from ck.ir.ops.linear_multi import LinearMultiOp
from ck.ir.types import Q16Type, WeightType, tensor, trained
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    LinearMultiOp,
    samples=(
        Sample((tensor(1, 37), WeightType.of((17, 37), "f32"), WeightType.of((5, 37), "f16"))),
        Sample(
            (
                Q16Type.of((3, 256)),
                WeightType.of((65, 256), "q4_k"),
                WeightType.of((33, 256), "q6_k"),
                WeightType.of((33, 256), "q8_0"),
            )
        ),
        Sample((Q16Type.of((5, 64)), WeightType.of((100, 64), "q4_1"), WeightType.of((16, 64), "q5_0"))),
    ),
    refusals=(
        Refusal(Sample((tensor(1, 64), WeightType.of((17, 64), "f32"))), "two weights or more, got 1"),
        Refusal(
            Sample((tensor(1, 64), WeightType.of((17, 64), "f32"), WeightType.of((17, 32), "f32"))),
            "have 64 columns, w is",
        ),
        Refusal(
            Sample((tensor(1, 64), WeightType.of((17, 64), "q8_0"), WeightType.of((17, 64), "f16"))),
            "all weights quantised or none",
        ),
    ),
)

TRAINED = OpCase(
    LinearMultiOp,
    samples=(
        Sample((tensor(1, 37), trained(17, 37), trained(5, 37))),
        Sample((tensor(3, 65), trained(33, 65), trained(7, 65), trained(7, 65))),
        Sample((tensor(5, 64), trained(9, 64), trained(16, 64)), compute="bf16"),
    ),
    refusals=(),
)
