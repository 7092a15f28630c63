"""`ck.matmul`, both products of a gradient, in f32 and with factors rounded to bf16."""

from ck.ir.ops.matmul import MatmulOp
from ck.ir.types import WeightType, tensor, trained
from tests.ops.case import OpCase, Refusal, Sample


def rows(n_rows: int, n_out: int, n_in: int, add: bool = False, compute: str = "f32") -> Sample:
    """The gradient of rows: dy [T, n_out] and w [n_out, n_in]."""
    addend = (tensor(n_rows, n_in),) if add else ()
    return Sample((tensor(n_rows, n_out), trained(n_out, n_in), *addend), {"form": "nn"}, compute=compute)


def weight(n_rows: int, n_out: int, n_in: int, add: bool = False, compute: str = "f32") -> Sample:
    """The gradient of a weight [n_out, n_in]: dy [T, n_out] and x [T, n_in]."""
    addend = (trained(n_out, n_in),) if add else ()
    operands = (tensor(n_rows, n_out), tensor(n_rows, n_in), *addend)
    return Sample(operands, {"form": "tn"}, compute=compute)


CASE = OpCase(
    MatmulOp,
    samples=(rows(1, 17, 64), rows(3, 65, 33, add=True), rows(7, 300, 5)),
    refusals=(
        Refusal(Sample((tensor(2, 3), trained(3, 5)), {"form": "nt"}), "form is one of nn, tn, got nt"),
        Refusal(Sample((tensor(2, 3), tensor(3, 5)), {"form": "nn"}), "b is a !ck.q of layout rows, got"),
        Refusal(
            Sample((tensor(2, 3), WeightType.of((3, 5), "f16")), {"form": "nn"}),
            "b is a !ck.q of layout rows, got !ck.q<3x5xf16>",
        ),
        Refusal(Sample((tensor(2, 3), trained(4, 5)), {"form": "nn"}), "nn: .* do not fit"),
        Refusal(Sample((tensor(2, 3), tensor(4, 5)), {"form": "tn"}), "tn: .* do not fit"),
        Refusal(Sample((tensor(2, 3), trained(2, 5)), {"form": "tn"}), "tn: .* do not fit"),
        Refusal(Sample((tensor(2, 3), trained(3, 5), tensor(2, 4)), {"form": "nn"}), "the addend is"),
        Refusal(Sample((tensor(2, 3), tensor(2, 5), tensor(3, 5)), {"form": "tn"}), "the addend is !ck.q"),
    ),
)

WEIGHTS = OpCase(
    MatmulOp, samples=(weight(1, 17, 64), weight(3, 65, 33, add=True), weight(300, 5, 7)), refusals=()
)

BF16 = OpCase(
    MatmulOp,
    samples=(
        rows(5, 65, 33, compute="bf16"),
        rows(3, 17, 64, add=True, compute="bf16"),
        rows(1, 300, 9, compute="bf16"),
    ),
    refusals=(),
)

BF16_WEIGHTS = OpCase(
    MatmulOp,
    samples=(
        weight(5, 65, 33, compute="bf16"),
        weight(3, 17, 64, add=True, compute="bf16"),
        weight(2, 9, 31, compute="bf16"),
    ),
    refusals=(),
)
