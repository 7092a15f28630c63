"""`ck.delta_rule`: at position 0 and later, both orders of heads, widths that fill no strip."""

import numpy as np
from xdsl.dialects.builtin import IndexType

from ck.ir.ops.delta_rule import DeltaRuleOp
from ck.ir.types import StateType, tensor
from tests.ops.case import OpCase, Refusal, Sample

INDEX = IndexType()


def gates(rows: int, heads: int, key_columns: int, key_heads: int) -> dict[str, np.ndarray]:
    """Keys of length 1, decays below 1, rates between 0 and 1: without them a state grows with every row.

    Even heads decay so slowly that what is before a piece of 64 rows counts behind it.
    """
    rng = np.random.default_rng(rows)
    keys = rng.standard_normal((rows, key_heads, key_columns // key_heads))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    return {
        "k": keys.reshape(rows, key_columns),
        "g": -rng.exponential(0.3, (rows, heads)) * np.where(np.arange(heads) % 2, 1, 0.01),
        "beta": rng.uniform(0, 1, (rows, heads)),
    }


def form(heads: int, key_heads: int, order: str = "grouped") -> dict[str, object]:
    return {"heads": heads, "key_heads": key_heads, "order": order, "scale": 0.25}


def sample(
    rows: int, sizes: tuple[int, int, int, int], numbers: tuple[int, int], order: str = "grouped"
) -> Sample:
    """`sizes` are value heads, key heads and their widths, `numbers` n and pos."""
    heads, key_heads, key_dim, value_dim = sizes
    keys, gate = tensor(rows, key_heads * key_dim), tensor(rows, heads)
    state = StateType.of(heads, key_dim, value_dim)
    given = gates(rows, heads, key_heads * key_dim, key_heads)
    return Sample(
        (state, keys, keys, tensor(rows, heads * value_dim), gate, gate, INDEX, INDEX),
        form(heads, key_heads, order),
        numbers,
        given={2: given["k"], 4: given["g"], 5: given["beta"]},
    )


def refused(**other: object) -> Sample:
    """Rows of four value heads of 5 columns, two key heads of 3, where `other` says nothing else."""
    known = {
        "state": StateType.of(4, 3, 5), "q": tensor(2, 6), "k": tensor(2, 6), "v": tensor(2, 20),
        "g": tensor(2, 4), "beta": tensor(2, 4), **other,
    }  # fmt: skip
    properties = {**form(4, 2), **{name: value for name, value in other.items() if name in form(4, 2)}}
    names = ("state", "q", "k", "v", "g", "beta")
    return Sample((*(known[name] for name in names), INDEX, INDEX), properties)


FITS = "key heads of .* do not fit"
GATES = r"g and beta are \[2, 4\], got"

CASE = OpCase(
    DeltaRuleOp,
    samples=(
        sample(1, (3, 3, 17, 5), (1, 9)),
        sample(7, (6, 3, 16, 48), (5, 0), "cyclic"),
        # Rows of more than one block.
        sample(70, (4, 2, 33, 40), (70, 2)),
    ),
    refusals=(
        Refusal(refused(order="tiled"), "order is one of grouped, cyclic, got tiled"),
        Refusal(refused(key_heads=3), FITS),
        Refusal(refused(q=tensor(2, 7), k=tensor(2, 7)), FITS),
        Refusal(refused(k=tensor(2, 8)), FITS),
        Refusal(refused(v=tensor(3, 20)), FITS),
        Refusal(refused(v=tensor(2, 21)), FITS),
        Refusal(refused(g=tensor(2, 3)), GATES),
        Refusal(refused(beta=tensor(2, 3)), GATES),
        Refusal(refused(q=tensor(2, 514), k=tensor(2, 514)), "a key head has at most 256 columns, got 257"),
        Refusal(refused(state=StateType.of(4, 5, 3)), "the state is !ck.state<4x3x5xf32>, got"),
    ),
)

# Rows so few that they work on the state where it lies.
FEW = OpCase(
    DeltaRuleOp,
    samples=(
        sample(2, (2, 1, 20, 64), (2, 5)),
        sample(2, (2, 2, 7, 72), (1, 1), "cyclic"),
        sample(3, (1, 1, 128, 128), (3, 64)),
    ),
    refusals=(),
)
