"""`ck.accumulate`"""

from ck.ir.ops.accumulate import AccumulateOp
from ck.ir.types import tensor, trained
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    AccumulateOp,
    samples=(
        Sample((tensor(17), tensor(17))),
        Sample((trained(65, 33), trained(65, 33))),
        # More than one piece of 4096 elements.
        Sample((trained(100, 83), trained(100, 83))),
    ),
    refusals=(Refusal(Sample((trained(2, 3), tensor(2, 3))), "operands have one type, got"),),
)
