"""`ck.glu`"""

from ck.ir.ops.glu import GluOp
from ck.ir.types import Q8Type, Q16Type, WeightType, tensor
from tests.ops.case import OpCase, Refusal, Sample


def sample(x, gate: WeightType, act: str, up: WeightType | None = None) -> Sample:
    return Sample((x, gate, up or gate), {"act": act})


CASE = OpCase(
    GluOp,
    samples=(
        sample(tensor(1, 37), WeightType.of((17, 37), "f32"), "silu"),
        sample(Q16Type.of((3, 256)), WeightType.of((65, 256), "q4_k"), "gelu_tanh"),
        sample(Q16Type.of((5, 96)), WeightType.of((100, 96), "q8_0"), "silu"),
        sample(Q8Type.of((5, 96)), WeightType.of((33, 96), "q4_0"), "silu"),
    ),
    refusals=(
        Refusal(sample(tensor(1, 32), WeightType.of((17, 64), "q8_0"), "silu"), "have 32 columns, w is"),
        Refusal(
            sample(tensor(1, 64), WeightType.of((17, 64), "q8_0"), "silu", WeightType.of((17, 64), "f16")),
            "gate and up have one type",
        ),
        Refusal(sample(tensor(1, 64), WeightType.of((17, 64), "q8_0"), "relu"), "act is one of"),
    ),
)
