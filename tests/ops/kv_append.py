"""`ck.kv_append`"""

from xdsl.dialects.builtin import IndexType

from ck.ir.ops.kv_append import KvAppendOp
from ck.ir.types import KvType, tensor
from tests.ops.case import OpCase, Refusal, Sample

INDEX = IndexType()

CASE = OpCase(
    KvAppendOp,
    samples=(
        Sample((KvType.of(1, 64, 16, "f32"), tensor(1, 16), tensor(1, 16), INDEX, INDEX), {}, (1, 0)),
        Sample((KvType.of(3, 64, 32, "f16"), tensor(7, 96), tensor(7, 96), INDEX, INDEX), {}, (5, 62)),
        Sample((KvType.of(2, 128, 48, "f32"), tensor(5, 96), tensor(5, 96), INDEX, INDEX), {}, (5, 1000)),
    ),
    refusals=(
        Refusal(
            Sample((KvType.of(2, 64, 16, "f32"), tensor(1, 32), tensor(1, 16), INDEX, INDEX)),
            r"k and v are \[T, 32\]",
        ),
        Refusal(
            Sample((KvType.of(2, 64, 16, "f32"), tensor(1, 16), tensor(1, 16), INDEX, INDEX)),
            r"k and v are \[T, 32\]",
        ),
    ),
)
