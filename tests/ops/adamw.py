"""`ck.adamw`"""

from ck.ir.ops.adamw import AdamwOp
from ck.ir.types import tensor, trained
from tests.ops.case import OpCase
from tests.ops.optimizers import refusals, sample

# keep, 1 - beta1, beta2, 1 - beta2, eps, step, root: the third update at lr 0.01, decay 0.1.
HYPER = (0.999, 0.1, 0.95, 0.05, 1e-8, 0.01 / 0.271, 0.142625**0.5)

CASE = OpCase(
    AdamwOp,
    samples=(
        sample(tensor(17), 2, 0, HYPER, 7),
        sample(trained(65, 33), 2, 1, HYPER, 7),
        sample(trained(100, 83), 2, 2, HYPER, 7),
    ),
    refusals=refusals(2),
)
