"""`ck.quantize_rows`"""

from ck.ir.ops.quantize_rows import QuantizeRowsOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    QuantizeRowsOp,
    samples=(Sample((tensor(1, 32),)), Sample((tensor(3, 32 * 7),)), Sample((tensor(5, 576),))),
    refusals=(Refusal(Sample((tensor(3, 65),)), "rows are multiples of 32"),),
)

BYTES = OpCase(
    QuantizeRowsOp,
    samples=tuple(Sample((tensor(rows, k),), {"bits": 8}) for rows, k in ((1, 32), (3, 32 * 7), (5, 576))),
    refusals=(
        Refusal(Sample((tensor(3, 65),), {"bits": 8}), "rows are multiples of 32"),
        Refusal(Sample((tensor(3, 64),), {"bits": 7}), "bits is 8 or absent, got 7"),
    ),
)
