"""`ck.attention`"""

from xdsl.dialects.builtin import IndexType

from ck.ir.ops.attention import AttentionOp
from ck.ir.types import KvType, tensor
from tests.ops.case import OpCase, Refusal, Sample

INDEX = IndexType()


def sample(q, cache, numbers=(), *, heads: int, window: int = 0) -> Sample:
    """`numbers` are n and pos."""
    properties = {"heads": heads, "scale": 0.125, "window": window}
    return Sample((q, cache, INDEX, INDEX), properties, numbers)


CASE = OpCase(
    AttentionOp,
    samples=(
        sample(tensor(1, 48), KvType.of(1, 64, 16, "f32"), (1, 0), heads=3),
        # Two query heads a key head, rows of three blocks.
        sample(tensor(7, 6 * 32), KvType.of(3, 192, 32, "f16"), (7, 129), heads=6),
        # A window, in a ring that has been round twice.
        sample(tensor(5, 4 * 64), KvType.of(1, 128, 64, "f32"), (5, 333), heads=4, window=65),
    ),
    refusals=(
        Refusal(sample(tensor(1, 40), KvType.of(1, 64, 16, "f32"), heads=3), "do not fit cache"),
        Refusal(sample(tensor(1, 48), KvType.of(2, 64, 16, "f32"), heads=3), "do not fit cache"),
        Refusal(
            sample(tensor(1, 24), KvType.of(1, 64, 24, "f32"), heads=1), "multiples of 16 columns, got 24 in"
        ),
    ),
)
