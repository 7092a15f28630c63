"""`ck.packed_conv1d` and `ck.packed_conv1d_bwd`: documents shorter than a filter among them."""

from ck.ir.ops.packed_conv1d import PackedConv1dBwdOp, PackedConv1dOp
from ck.ir.types import WeightType, tensor, trained
from tests.ops.case import OpCase, Refusal, Sample, ids
from tests.ops.packed_attention import starts


def sample(channels: int, taps: int, *lengths: int) -> Sample:
    rows = sum(lengths)
    operands = (tensor(rows, channels), trained(channels, taps), ids(rows))
    return Sample(operands, given={2: starts(*lengths)})


def backward(channels: int, taps: int, *lengths: int, add: bool = False) -> Sample:
    rows, w = tensor(sum(lengths), channels), trained(channels, taps)
    into = (w,) if add else ()
    return Sample((rows, w, rows, ids(sum(lengths)), *into), given={3: starts(*lengths)})


CASE = OpCase(
    PackedConv1dOp,
    samples=(sample(17, 4, 3), sample(300, 4, 5, 1, 2, 9), sample(40, 3, 70, 20)),
    refusals=(
        Refusal(Sample((tensor(5, 3), trained(4, 4), ids(5))), "have a filter a column, w is"),
        Refusal(Sample((tensor(5, 3), trained(3, 9), ids(5))), "2 to 8 taps, got 9 in"),
        Refusal(Sample((tensor(5, 3), WeightType.of((3, 4), "f32"), ids(5))), "w has layout rows, got"),
        Refusal(Sample((tensor(5, 3), trained(3, 4), ids(4))), r"starts are \[5\], got"),
    ),
)

BWD = OpCase(
    PackedConv1dBwdOp,
    samples=(backward(17, 4, 3), backward(300, 4, 5, 1, 2, 9, add=True), backward(40, 3, 70, 20)),
    refusals=(
        Refusal(Sample((tensor(5, 3), trained(3, 4), tensor(5, 3), ids(4))), r"starts are \[5\], got"),
        Refusal(Sample((tensor(5, 3), trained(3, 4), tensor(5, 4), ids(5))), "dy is tensor<5x3"),
        Refusal(
            Sample((tensor(5, 3), trained(3, 4), tensor(5, 3), ids(5), trained(3, 3))),
            "into is !ck.q<3x4xf32, rows>",
        ),
    ),
)
