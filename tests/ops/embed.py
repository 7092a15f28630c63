"""`ck.embed` and `ck.embed_bwd`"""

from ck.ir.ops.embed import EmbedBwdOp, EmbedOp
from ck.ir.types import WeightType, tensor, trained
from tests.ops.case import OpCase, Refusal, Sample, ids

TRAINED = (
    Sample((ids(1), trained(17, 64))),
    Sample((ids(7), trained(65, 37))),
    # Tokens that occur more than once.
    Sample((ids(9), trained(3, 5))),
)

CASE = OpCase(
    EmbedOp,
    samples=(
        Sample((ids(1), WeightType.of((17, 64), "q8_0"))),
        Sample((ids(7), WeightType.of((65, 37), "f32"))),
        Sample((ids(5), WeightType.of((100, 256), "q6_k"))),
    ),
    refusals=(Refusal(Sample((ids(1, 2), WeightType.of((17, 64), "q8_0"))), r"tokens are \[T\]"),),
    slopes=TRAINED,
)

ROWS = OpCase(EmbedOp, samples=TRAINED, refusals=())


def backward(rows: int, n_vocab: int, d: int, add: bool = False) -> Sample:
    """Tokens of which some occur more than once, and some never."""
    into = (trained(n_vocab, d),) if add else ()
    tokens = [(t * t) % n_vocab for t in range(rows)]
    return Sample((ids(rows), tensor(rows, d), *into), {"n_vocab": n_vocab}, given={0: tokens})


BWD = OpCase(
    EmbedBwdOp,
    samples=(backward(1, 17, 64), backward(7, 5, 37, add=True), backward(9, 65, 3)),
    refusals=(
        Refusal(Sample((ids(1, 2), tensor(1, 2)), {"n_vocab": 5}), "do not fit rows"),
        Refusal(Sample((ids(3), tensor(4, 2)), {"n_vocab": 5}), "do not fit rows"),
        Refusal(
            Sample((ids(3), tensor(3, 2), trained(4, 2)), {"n_vocab": 5}), "into is !ck.q<5x2xf32, rows>"
        ),
    ),
)
