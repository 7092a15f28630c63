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
        Sample((tensor(32), IndexType()), {"rows": 5}, (100,)),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 3), IndexType()), {"rows": 1}), r"freq is \[D/2\]"),
        Refusal(Sample((tensor(3), IndexType()), {"rows": "1"}), "required an integer property"),
    ),
    # The angle is rounded to f32 by definition; a cosine or sine of it is good to 2 units of 1.
    roundings=lambda freq, pos, table: 2 * np.ones_like(table),
    # Sine and cosine are good up to angles of 1e5.
    scales=(1.0, 1e-4),
)
