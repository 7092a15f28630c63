"""`ck.rms_norm`"""

import numpy as np

from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    RmsNormOp,
    samples=(
        Sample((tensor(1, 17), tensor(17)), {"eps": 1e-5}),
        Sample((tensor(3, 65), tensor(65)), {"eps": 1e-6}),
        Sample((tensor(5, 576), tensor(576)), {"eps": 1e-5}),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 3), tensor(4)), {"eps": 1e-5}), "have 3 columns, w is"),
        Refusal(Sample((tensor(2, 3), tensor(2, 3)), {"eps": 1e-5}), "have 3 columns, w is"),
    ),
    # A sum of D squares, all positive, in D / 64 + 6 roundings; the root halves the error of the mean.
    roundings=lambda x, w, y: (6 + (x.shape[1] / 64 + 9) / 2) * np.abs(y),
)
