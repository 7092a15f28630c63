"""`ck.reshape`"""

from ck.ir.ops.reshape import ReshapeOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    ReshapeOp,
    samples=(
        Sample((tensor(1, 51),), {"rows": 3, "columns": 17}),
        Sample((tensor(3, 65),), {"rows": 15, "columns": 13}),
        Sample((tensor(20, 32),), {"rows": 5, "columns": 128}),
    ),
    refusals=(Refusal(Sample((tensor(2, 3),), {"rows": 2, "columns": 4}), "has not the elements of"),),
    build=ReshapeOp.to,
)
