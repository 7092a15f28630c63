"""`ck.causal_conv1d`: at position 0 and later, fewer rows than the state has and more."""

from xdsl.dialects.builtin import IndexType

from ck.ir.ops.causal_conv1d import CausalConv1dOp
from ck.ir.types import StateType, WeightType, tensor
from tests.ops.case import OpCase, Refusal, Sample

INDEX = IndexType()


def sample(rows: int, channels: int, taps: int, storage: str, n: int, pos: int) -> Sample:
    state = StateType.of(taps - 1, channels)
    weight = WeightType.of((channels, taps), storage)
    return Sample((state, tensor(rows, channels), weight, INDEX, INDEX), {}, (n, pos))


def refused(state: StateType, columns: int, w: WeightType) -> Sample:
    return Sample((state, tensor(2, columns), w, INDEX, INDEX))


FILTERS = WeightType.of((7, 4), "f32")

CASE = OpCase(
    CausalConv1dOp,
    samples=(
        sample(1, 17, 4, "f32", 1, 9),
        sample(7, 300, 4, "bf16", 5, 0),
        sample(5, 96, 3, "f16", 5, 1),
    ),
    refusals=(
        Refusal(refused(StateType.of(3, 8), 8, FILTERS), "have a filter a column, w is"),
        Refusal(refused(StateType.of(3, 8), 7, FILTERS), "the state is !ck.state<3x7xf32>, got"),
        Refusal(refused(StateType.of(7), 7, WeightType.of((7, 1), "f32")), "2 to 8 taps, got 1 in"),
        Refusal(refused(StateType.of(8, 7), 7, WeightType.of((7, 9), "f32")), "2 to 8 taps, got 9 in"),
        Refusal(
            Sample((StateType.of(3, 7), tensor(7), FILTERS, INDEX, INDEX)), "have a filter a column, w is"
        ),
    ),
)

# No more rows than the state moves by, and a filter of two taps.
SHORT = OpCase(
    CausalConv1dOp,
    samples=(
        sample(3, 33, 4, "f32", 2, 2),
        sample(3, 33, 4, "f32", 2, 0),
        sample(9, 16, 2, "f32", 9, 64),
    ),
    refusals=(),
)
