"""`ck.packed_attention` and `ck.packed_attention_bwd`: documents, windows, grouped heads."""

import numpy as np

from ck.ir.ops.packed_attention import PackedAttentionBwdOp, PackedAttentionOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample, ids


def starts(*lengths: int) -> np.ndarray:
    """The first rows of documents laid end to end."""
    return np.repeat(np.cumsum((0, *lengths[:-1])), lengths)


def sample(heads: int, kv_heads: int, head_dim: int, window: int, *lengths: int) -> Sample:
    rows = sum(lengths)
    q, kv = tensor(rows, heads * head_dim), tensor(rows, kv_heads * head_dim)
    properties = {"heads": heads, "kv_heads": kv_heads, "scale": 0.25, "window": window}
    return Sample((q, kv, kv, ids(rows)), properties, given={3: starts(*lengths)})


def backward(of: Sample) -> Sample:
    """The gradient of a sample: y and lse are those of the forward op on the same numbers."""
    q, kv, _, first = of.operands
    lse = tensor(of.capacity, of.properties["heads"])
    rng = np.random.default_rng(of.capacity)
    given = [rng.standard_normal(t.get_shape(), np.float32) for t in (q, kv, kv)]
    block, op = OpCase(PackedAttentionOp, *((), ())).make(of)
    y, sums = op.reference(*given, of.given[3])
    block.erase_op(op)
    known = {**dict(enumerate(given)), 3: of.given[3], 4: y, 5: sums}
    return Sample((q, kv, kv, first, q, lse, q), of.properties, given=known)


SAMPLES = (
    sample(1, 1, 17, 0, 3),
    # Two query heads a key head; three documents, one of a single row.
    sample(6, 3, 8, 0, 5, 1, 9),
    # A window inside of documents, more rows than a block of positions.
    sample(4, 1, 16, 7, 53, 20),
)
FORM = {"heads": 3, "kv_heads": 1, "scale": 1.0, "window": 0}
FITS = "3 heads of .* do not fit 1 of"

CASE = OpCase(
    PackedAttentionOp,
    samples=SAMPLES,
    refusals=(
        Refusal(Sample((tensor(5, 16), tensor(5, 5), tensor(5, 5), ids(5)), FORM), FITS),
        Refusal(Sample((tensor(5, 15), tensor(5, 4), tensor(5, 4), ids(5)), FORM), FITS),
        Refusal(Sample((tensor(5, 15), tensor(5, 5), tensor(5, 4), ids(5)), FORM), FITS),
        Refusal(
            Sample((tensor(5, 15), tensor(5, 10), tensor(5, 10), ids(5)), {**FORM, "kv_heads": 2}),
            "3 heads of .* do not fit 2 of",
        ),
        Refusal(Sample((tensor(5, 15), tensor(5, 5), tensor(5, 5), ids(4)), FORM), r"starts are \[5\], got"),
        Refusal(
            Sample((tensor(5, 1542), tensor(5, 514), tensor(5, 514), ids(5)), FORM),
            "a head has at most 512 columns, got 514",
        ),
    ),
    no_slope=frozenset({"lse"}),
)


def refused(y: int = 15, lse: int = 3, dy: int = 15, n_starts: int = 5) -> Sample:
    """A gradient over 5 rows with these columns."""
    rows = (tensor(5, 15), tensor(5, 5), tensor(5, 5), ids(n_starts))
    return Sample((*rows, tensor(5, y), tensor(5, lse), tensor(5, dy)), FORM)


BWD = OpCase(
    PackedAttentionBwdOp,
    samples=tuple(backward(of) for of in SAMPLES),
    refusals=(
        Refusal(refused(n_starts=4), r"bwd: starts are \[5\], got"),
        Refusal(refused(y=5), "do not fit q"),
        Refusal(refused(lse=1), "do not fit q"),
        Refusal(refused(dy=5), "do not fit q"),
    ),
)
