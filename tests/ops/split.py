"""`ck.split` and `ck.split_bwd`"""

import numpy as np

from ck.ir.ops.split import SplitBwdOp, SplitOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample

CASE = OpCase(
    SplitOp,
    samples=(
        Sample((tensor(1, 17),), {"sizes": (17,)}),
        Sample((tensor(3, 65),), {"sizes": (1, 31, 33)}),
        Sample((tensor(5, 128),), {"sizes": (64, 48, 16)}),
    ),
    refusals=(
        Refusal(Sample((tensor(2, 3),), {"sizes": (1, 1)}), r"sizes \(1, 1\) are not those of"),
        Refusal(Sample((tensor(2, 3),), {"sizes": (3, 0)}), "are not those of the columns of"),
        Refusal(Sample((tensor(3),), {"sizes": (3,)}), "are not those of the columns of"),
    ),
    roundings=lambda x, *parts: tuple(0 * np.abs(part) for part in parts),
)


def backward(rows: int, sizes: tuple[int, ...], given: tuple[int, ...], per_token: int = 1) -> Sample:
    parts = tuple(tensor(rows, sizes[place]) for place in given)
    return Sample(parts, {"sizes": sizes, "given": given, "rows_per_token": per_token})


def refused(parts: tuple[int, ...], given: tuple[int, ...], per_token: int = 1) -> Sample:
    """Parts of these columns for sizes 3 and 4."""
    properties = {"sizes": (3, 4), "given": given, "rows_per_token": per_token}
    return Sample(tuple(tensor(5, columns) for columns in parts), properties)


WRONG = "are not parts .* of rows of sizes"

BWD = OpCase(
    SplitBwdOp,
    samples=(
        backward(1, (17,), (0,)),
        # Without the first part and the third, three rows a token.
        backward(15, (9, 31, 2, 33), (1, 3), 3),
        backward(5, (64, 48, 16), (0, 1)),
    ),
    refusals=(
        Refusal(refused((3, 3), (0, 1)), WRONG),
        Refusal(refused((4, 3), (1, 0)), WRONG),
        Refusal(refused((3, 3), (0, 0)), WRONG),
        Refusal(refused((3,), (2,)), WRONG),
        Refusal(refused((), ()), WRONG),
        Refusal(refused((3, 4), (0, 1), 2), "2 rows a token, got tensor<5x3"),
    ),
)
