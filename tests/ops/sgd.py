"""`ck.sgd`"""

from ck.ir.ops.sgd import SgdOp
from ck.ir.types import tensor, trained
from tests.ops.case import OpCase
from tests.ops.optimizers import refusals, sample

# lr, momentum, weight decay.
HYPER = (0.05, 0.9, 0.1)

CASE = OpCase(
    SgdOp,
    samples=(
        sample(tensor(17), 1, 0, HYPER, 3),
        sample(trained(65, 33), 1, 1, HYPER, 3),
        sample(trained(100, 83), 1, 2, HYPER, 3),
    ),
    refusals=refusals(1),
)
