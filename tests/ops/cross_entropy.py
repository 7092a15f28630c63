"""`ck.cross_entropy` and `ck.cross_entropy_bwd`: ignored targets, one chunk of rows and several."""

import numpy as np

from ck.ir.ops.cross_entropy import CHUNK, CrossEntropyBwdOp, CrossEntropyOp
from ck.ir.types import WeightType, tensor, trained
from tests.ops.case import OpCase, Refusal, Sample, ids

# Three chunks, the last of 7 rows.
MANY = 2 * CHUNK + 7


def targets(rows: int, n_vocab: int) -> np.ndarray:
    """Every fourth row is not scored."""
    found = np.random.default_rng(rows).integers(0, n_vocab, rows)
    return np.where(np.arange(rows) % 4 == 2, -1, found)


def given(rows: int, n_vocab: int, d: int) -> dict[int, np.ndarray]:
    """Hidden rows whose logits are near 1, so that no loss is a difference of large numbers; targets."""
    hidden = np.random.default_rng(d).standard_normal((rows, d)) / np.sqrt(d)
    return {0: hidden, 2: targets(rows, n_vocab)}


def sample(rows: int, n_vocab: int, d: int, compute: str = "f32") -> Sample:
    operands = (tensor(rows, d), trained(n_vocab, d), ids(rows))
    return Sample(operands, given=given(rows, n_vocab, d), compute=compute)


def backward(rows: int, n_vocab: int, d: int, compute: str = "f32", add: bool = False) -> Sample:
    into = (trained(n_vocab, d),) if add else ()
    operands = (tensor(rows, d), trained(n_vocab, d), ids(rows), tensor(rows, 1), *into)
    return Sample(operands, given=given(rows, n_vocab, d), compute=compute)


HEAD = r"\(of layout rows\) .* do not fit"

CASE = OpCase(
    CrossEntropyOp,
    samples=(sample(1, 17, 64), sample(7, 65, 33), sample(MANY, 9, 5)),
    refusals=(
        Refusal(Sample((tensor(5, 3), WeightType.of((7, 3), "f32"), ids(5))), HEAD),
        Refusal(Sample((tensor(5, 3), trained(7, 4), ids(5))), HEAD),
        Refusal(Sample((tensor(5, 3), trained(7, 3), ids(4))), HEAD),
    ),
    no_slope=frozenset({"logits"}),
)

BF16 = OpCase(
    CrossEntropyOp,
    samples=(sample(1, 17, 64, "bf16"), sample(7, 65, 33, "bf16"), sample(5, 100, 7, "bf16")),
    refusals=(),
    slopes=(),
)

BWD = OpCase(
    CrossEntropyBwdOp,
    samples=(backward(1, 17, 64), backward(7, 65, 33, add=True), backward(MANY, 9, 5)),
    refusals=(
        Refusal(Sample((tensor(5, 3), trained(7, 4), ids(5), tensor(5, 1))), HEAD),
        Refusal(Sample((tensor(5, 3), trained(7, 3), ids(5), tensor(5))), "dnll is tensor<5x1x"),
        Refusal(
            Sample((tensor(5, 3), trained(7, 3), ids(5), tensor(5, 1), trained(7, 4))),
            "into is !ck.q<7x3xf32, rows>",
        ),
    ),
)

BWD_BF16 = OpCase(
    CrossEntropyBwdOp,
    samples=(
        backward(1, 17, 64, "bf16"),
        backward(7, 65, 33, "bf16", add=True),
        backward(9, 100, 7, "bf16"),
    ),
    refusals=(),
)
