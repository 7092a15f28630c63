"""`ck.reduce_rows`"""

from ck.ir.ops.reduce_rows import ReduceRowsOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    ReduceRowsOp,
    samples=(
        Sample((tensor(1, 17),), {"rows_per_token": 1}),
        # Three rows a token, as heads are; added to what is there.
        Sample((tensor(15, 65), tensor(65)), {"rows_per_token": 3}),
        # More than one block of rows.
        Sample((tensor(150, 5), tensor(5)), {"rows_per_token": 1}),
    ),
    refusals=(
        Refusal(Sample((tensor(5, 3),), {"rows_per_token": 2}), "2 rows a token, got tensor<5x3"),
        Refusal(Sample((tensor(5),), {"rows_per_token": 1}), "1 rows a token, got tensor<5x"),
        Refusal(Sample((tensor(5, 3), tensor(5)), {"rows_per_token": 1}), "into is tensor<3x"),
    ),
)
