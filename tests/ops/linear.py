"""`ck.linear`, with a weight of every storage type."""

from ck.dtypes import BY_NAME
from ck.ir.ops.linear import LinearOp
from ck.ir.types import Q8Type, Q16Type, WeightType, tensor, trained
from tests.ops.case import OpCase, Refusal, Sample


def sample(rows: int, n_out: int, n_in: int, storage: str, residual: bool = False) -> Sample:
    quantized = BY_NAME[storage].quantized
    x = Q16Type.of((rows, n_in)) if quantized else tensor(rows, n_in)
    added = (tensor(rows, n_out),) if residual else ()
    return Sample((x, WeightType.of((n_out, n_in), storage), *added))


def trains(rows: int, n_out: int, n_in: int, residual: bool = False, compute: str = "f32") -> Sample:
    """With a weight that is trained."""
    added = (tensor(rows, n_out),) if residual else ()
    return Sample((tensor(rows, n_in), trained(n_out, n_in), *added), compute=compute)


TRAINED = OpCase(
    LinearOp,
    samples=(trains(1, 17, 64), trains(3, 65, 33, True), trains(7, 5, 300)),
    refusals=(Refusal(Sample((Q16Type.of((1, 32)), trained(5, 32))), "a float weight .* takes f32 rows"),),
)

# A packed weight has no gradient; what rounding to bf16 does has no slope.
NO_SLOPES = ()

BF16 = OpCase(
    LinearOp,
    samples=(
        trains(1, 17, 64, compute="bf16"),
        trains(5, 65, 33, True, compute="bf16"),
        trains(3, 7, 300, compute="bf16"),
    ),
    refusals=(),
    slopes=NO_SLOPES,
)

CASE = OpCase(
    LinearOp,
    samples=(sample(1, 17, 64, "q8_0"), sample(3, 65, 256, "q4_k", True), sample(5, 100, 37, "f32")),
    refusals=(
        Refusal(Sample((tensor(1, 64), tensor(17, 64))), "w is a !ck.q"),
        Refusal(Sample((tensor(1, 32), WeightType.of((17, 64), "q8_0"))), "have 32 columns, w is"),
        Refusal(
            Sample((Q16Type.of((1, 64)), WeightType.of((17, 64), "f16"))),
            "a float weight .* takes f32 rows",
        ),
        Refusal(
            Sample((tensor(1, 64), WeightType.of((17, 64), "f16"), tensor(1, 16))),
            "the residual is tensor<1x17",
        ),
    ),
    slopes=NO_SLOPES,
)

HALVES = OpCase(
    LinearOp,
    samples=(sample(1, 17, 65, "f16"), sample(3, 65, 33, "bf16", True), sample(7, 33, 3, "f32", True)),
    refusals=(),
    slopes=NO_SLOPES,
)

BYTES = OpCase(
    LinearOp,
    samples=(
        Sample((Q8Type.of((1, 64)), WeightType.of((17, 64), "q8_0"))),
        Sample((Q8Type.of((5, 256)), WeightType.of((65, 256), "q3_k"), tensor(5, 65))),
        Sample((Q8Type.of((9, 512)), WeightType.of((16, 512), "q2_k"))),
    ),
    refusals=(
        Refusal(
            Sample((Q8Type.of((1, 64)), WeightType.of((17, 64), "f16"))), "a float weight .* takes f32 rows"
        ),
    ),
    slopes=NO_SLOPES,
)

BLOCKS = OpCase(
    LinearOp,
    samples=(sample(5, 33, 96, "q4_1"), sample(1, 47, 160, "q5_0"), sample(9, 16, 512, "q6_k", True)),
    refusals=(),
    slopes=NO_SLOPES,
)
