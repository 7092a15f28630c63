"""What a delta rule takes, drawn from rows: keys of length 1, decays below 1, rates between 0 and 1.

Without them a state grows with every row, and there is nothing to compare.
"""

from typing import Any

from ck.ir.ops.delta_rule import ORDERS
from ck.ir.ops.l2_norm import L2NormOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.sigmoid import SigmoidOp
from ck.ir.ops.softplus import SoftplusOp
from tests.graphs.drawing import Drawing, Value

# Value heads, key heads.
RULE_HEADS = ((1, 1), (2, 1), (2, 2), (4, 2), (3, 3), (6, 2))
KEY_DIMS = (8, 1, 5, 16, 17, 32)
VALUE_DIMS = (16, 1, 5, 17, 32, 33)


def draw_rule(drawing: Drawing, x: Value) -> tuple[list[str], dict[str, Any], tuple[int, int, int]]:
    """Names of q, k, v, g and beta, the op's properties, and the sizes of its state."""
    choose = drawing.choose
    (heads, key_heads), key_dim, value_dim = choose(RULE_HEADS), choose(KEY_DIMS), choose(VALUE_DIMS)
    q, k = (drawing.rows_of(x, key_heads * key_dim) for _ in range(2))
    v = drawing.rows_of(x, heads * value_dim)
    a, b = (drawing.rows_of(x, heads) for _ in range(2))
    g = drawing.add(ScaleOp, drawing.add(SoftplusOp, a.name), factor=choose((-0.5, -1.0, -10.0)))
    beta = drawing.add(SigmoidOp, b.name)
    properties = {
        "heads": heads,
        "key_heads": key_heads,
        "order": choose(ORDERS),
        "scale": choose((0.25, 1.0, -0.5)),
    }
    names = [q.name, _unit(drawing, k, key_heads), v.name, g, beta]
    return names, properties, (heads, key_dim, value_dim)


def _unit(drawing: Drawing, k: Value, heads: int) -> str:
    """`k` with every head of length 1."""
    split = drawing.add(ReshapeOp, k.name, per_token=heads, columns=k.columns // heads)
    unit = drawing.add(L2NormOp, split, eps=1e-6)
    return drawing.add(ReshapeOp, unit, per_token=1, columns=k.columns)
