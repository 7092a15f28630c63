"""A difference beyond a promise passes where the program's own roundings make as much, and no further."""

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from ck.ir.check.checker import Checker
from ck.ir.check.failure import CheckFailure
from ck.ir.check.tier import BITS, Tier
from ck.ir.dialects import context
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.scale import ScaleOp
from tests.check.test_wrong_passes import ROWS
from tests.passes.programs import parse

# Less than anything that f32 can keep.
PROMISE = Tier(1e-20, "nothing to speak of")


class ScaleNorm(ModulePass):
    """Rows of the first norm times a factor."""

    name = "ck-scaled"
    factor = 1.0

    def apply(self, ctx: object, op: ModuleOp) -> None:
        norm = next(inner for inner in op.walk() if isinstance(inner, RmsNormOp))
        scaled = ScaleOp.build_op(norm.y, factor=self.factor, hint="scaled")
        norm.y.replace_uses_with_if(scaled.y, lambda use: use.operation is not scaled)
        Rewriter.insert_op(scaled, InsertPoint.after(norm))


def scaled(factor: float, tier: Tier) -> float:
    """The largest error that the check lets pass."""
    module = parse(ROWS)
    checker, kind = Checker(module), ScaleNorm()
    kind.factor = factor
    kind.apply(context(), module)
    return max(line.error for line in checker.after(ScaleNorm, module, tier))


def test_a_last_bit_is_noise() -> None:
    assert 1e-16 < scaled(1 + 2.0**-23, PROMISE) < 1e-13


@pytest.mark.parametrize(("factor", "tier"), [(1 + 2.0**-18, PROMISE), (1 + 2.0**-23, BITS)])
def test_more_is_not_nor_is_it_where_bits_are_promised(factor: float, tier: Tier) -> None:
    with pytest.raises(CheckFailure, match="ck-scaled changes what @f computes"):
        scaled(factor, tier)
