"""`ck.rope_table`"""

import numpy as np
from xdsl.dialects.builtin import IndexType

from ck.ir.ops.rope_table import RopeTableOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    RopeTableOp,
    samples=(
        Sample((tensor(17), IndexType()), {"rows": 1}, (0,)),
        Sample((tensor(33), IndexType()), {"rows": 3}, (4095,)),
        Sample((tensor(32), IndexType()), {"rows": 5, "factor": 1.1386}, (100,)),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 3), IndexType()), {"rows": 1}), r"freq is \[D/2\]"),
        Refusal(Sample((tensor(3), IndexType()), {"rows": "1"}), "required an integer property"),
    ),
    # The angle is rounded to f32 by definition; a cosine or sine of it is good to 2 units of 1, and once more
    # is rounded with a factor.
    roundings=lambda freq, pos, table: 2.5 * np.ones_like(table),
    # Sine and cosine are good up to angles of 1e5.
    scales=(1.0, 1e-4),
)

POSITIONS = OpCase(
    RopeTableOp,
    samples=(
        Sample((tensor(17), tensor(1, 1)), {"rows": 1}, given={1: [5]}),
        # Two documents.
        Sample((tensor(33), tensor(5, 1)), {"rows": 5}, given={1: [0, 1, 2, 0, 1]}),
        Sample((tensor(32), tensor(3, 1)), {"rows": 3}, given={1: [4095, 0, 1]}),
    ),
    refusals=(
        Refusal(Sample((tensor(3), tensor(2, 1)), {"rows": 1}), "positions are tensor<1x1x"),
        Refusal(Sample((tensor(3), tensor(2)), {"rows": 2}), "positions are tensor<2x1x"),
    ),
    roundings=CASE.roundings,
    scales=CASE.scales,
)
