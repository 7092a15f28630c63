"""`ck.embed`"""

from xdsl.dialects.builtin import TensorType, i32

from ck.ir.ops.embed import EmbedOp
from ck.ir.types import WeightType
from tests.ops.case import OpCase, Refusal, Sample


def tokens(*sizes: int) -> TensorType:
    return TensorType(i32, sizes)


CASE = OpCase(
    EmbedOp,
    samples=(
        Sample((tokens(1), WeightType.of((17, 64), "q8_0"))),
        Sample((tokens(7), WeightType.of((65, 37), "f32"))),
        Sample((tokens(5), WeightType.of((100, 256), "q6_k"))),
    ),
    refusals=(Refusal(Sample((tokens(1, 2), WeightType.of((17, 64), "q8_0"))), r"tokens are \[T\]"),),
)
