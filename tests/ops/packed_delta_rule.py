"""`ck.packed_delta_rule` and `ck.packed_delta_rule_bwd`: documents without a border, and others."""

import numpy as np

from ck.ir.ops.packed_delta_rule import PackedDeltaRuleBwdOp, PackedDeltaRuleOp
from ck.ir.types import tensor
from tests.ops.case import OpCase, Refusal, Sample, ids
from tests.ops.delta_rule import form, gates
from tests.ops.packed_attention import starts


def sample(sizes: tuple[int, int, int, int], order: str, *lengths: int) -> Sample:
    """`sizes` are value heads, key heads and their widths."""
    heads, key_heads, key_dim, value_dim = sizes
    rows = sum(lengths)
    keys, gate = tensor(rows, key_heads * key_dim), tensor(rows, heads)
    given = gates(rows, heads, key_heads * key_dim, key_heads)
    return Sample(
        (keys, keys, tensor(rows, heads * value_dim), gate, gate, ids(rows)),
        form(heads, key_heads, order),
        given={1: given["k"], 3: given["g"], 4: given["beta"], 5: starts(*lengths)},
    )


def backward(of: Sample) -> Sample:
    """The gradient of a sample: the states are those of the forward op on the same numbers."""
    block, op = OpCase(PackedDeltaRuleOp, *((), ())).make(of)
    rng = np.random.default_rng(of.capacity)
    known = {0: rng.standard_normal(of.operands[0].get_shape(), np.float32)}
    known[2] = rng.standard_normal(of.operands[2].get_shape(), np.float32)
    known |= {
        place: np.array(value, np.int32 if place == 5 else np.float32) for place, value in of.given.items()
    }
    _, states = op.reference(*(known[place] for place in range(6)))
    types = (*of.operands, op.states.type, of.operands[2])
    block.erase_op(op)
    return Sample(types, of.properties, given={**known, 6: states})


SAMPLES = (
    sample((1, 1, 5, 17), "grouped", 3),
    sample((6, 3, 16, 9), "cyclic", 5, 1, 70),
    # Borders in two documents, one of them right at an end.
    sample((4, 2, 20, 33), "grouped", 64, 150),
)


def refused(**other: object) -> Sample:
    """Rows of four value heads of 5 columns, two key heads of 3, where `other` says nothing else."""
    known = {
        "q": tensor(2, 6), "k": tensor(2, 6), "v": tensor(2, 20), "g": tensor(2, 4), "beta": tensor(2, 4),
        "starts": ids(2), **other,
    }  # fmt: skip
    last = tuple(known[name] for name in ("states", "dy") if name in known)
    names = ("q", "k", "v", "g", "beta", "starts")
    return Sample((*(known[name] for name in names), *last), form(4, 2))


STATES = {"states": tensor(1, 4, 15), "dy": tensor(2, 20)}

CASE = OpCase(
    PackedDeltaRuleOp,
    samples=SAMPLES,
    refusals=(
        Refusal(refused(k=tensor(2, 8)), "key heads of .* do not fit"),
        Refusal(refused(starts=ids(3)), r"starts are \[2\], got"),
        Refusal(refused(q=tensor(2, 258), k=tensor(2, 258)), "a key head has at most 128 columns, got 129"),
        Refusal(refused(v=tensor(2, 516)), "a value head has at most 128 columns, got 129"),
    ),
    no_slope=frozenset({"states"}),
)

BWD = OpCase(
    PackedDeltaRuleBwdOp,
    samples=tuple(backward(of) for of in SAMPLES),
    refusals=(
        Refusal(refused(**STATES, starts=ids(3)), r"bwd: starts are \[2\], got"),
        Refusal(refused(**{**STATES, "states": tensor(2, 4, 15)}), "states are tensor<1x4x15"),
        Refusal(refused(**{**STATES, "dy": tensor(2, 21)}), "and dy is tensor<2x20"),
    ),
)
