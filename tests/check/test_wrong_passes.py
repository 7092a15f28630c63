"""A wrong pass of each kind is caught, and the message names the pass, the value and the op that made it."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from xdsl.dialects import arith, func
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, ModuleOp, SymbolRefAttr, f32, i64
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from ck.ir.check.checker import Checker
from ck.ir.check.failure import CheckFailure
from ck.ir.check.tier import BITS, Tier
from ck.ir.dialects import context
from ck.ir.evaluate import find_function
from ck.ir.op import Accumulates
from ck.ir.ops.adamw import AdamwOp
from ck.ir.ops.global_norm import GlobalNormOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.matmul import MatmulOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.rt.ops import BarrierOp, CallOp, ViewOp
from ck.passes.add_optimizer import AddOptimizerPass
from ck.passes.assign_precision import AssignPrecisionPass
from ck.passes.differentiate import DifferentiatePass
from ck.passes.expand_math import ExpandMathPass
from ck.passes.pipeline import ORDER, run_pass
from ck.passes.schedule_threads import ScheduleThreadsPass
from tests.passes.programs import parse

ROWS = """
func.func @f(%x: tensor<7x96xf32>, %n: index) -> tensor<7x96xf32> attributes {ck.entry} {
  %gain = ck.weight @gain : tensor<96xf32>
  %up = ck.weight @up : !ck.q<96x96xf32>
  %down = ck.weight @down : !ck.q<96x96xf32>
  %h = ck.rms_norm %x, %gain {eps = 1.000000e-05 : f32} : tensor<7x96xf32>, tensor<96xf32> -> tensor<7x96xf32>
  %u = ck.linear %h, %up : (tensor<7x96xf32>, !ck.q<96x96xf32>) -> tensor<7x96xf32>
  %s = ck.silu %u : tensor<7x96xf32> -> tensor<7x96xf32>
  %d = ck.linear %s, %down : (tensor<7x96xf32>, !ck.q<96x96xf32>) -> tensor<7x96xf32>
  %r = ck.add %h, %d : tensor<7x96xf32>, tensor<7x96xf32> -> tensor<7x96xf32>
  %y = ck.rms_norm %r, %gain {eps = 1.000000e-05 : f32} : tensor<7x96xf32>, tensor<96xf32> -> tensor<7x96xf32>
  func.return %y : tensor<7x96xf32>
}
"""
TRAINED = """
func.func @f(%x: tensor<7x32xf32>, %n: index) -> tensor<7x32xf32>
    attributes {ck.entry, ck.trainable = [@up, @gain, @down]} {
  %gain = ck.weight @gain : tensor<32xf32>
  %up = ck.weight @up : !ck.q<32x32xf32, rows>
  %h = ck.rms_norm %x, %gain {eps = 1.000000e-05 : f32} : tensor<7x32xf32>, tensor<32xf32> -> tensor<7x32xf32>
  %u = ck.linear %h, %up : (tensor<7x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<7x32xf32>
  %down = ck.weight @down : !ck.q<32x32xf32, rows>
  %v = ck.linear %u, %down : (tensor<7x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<7x32xf32>
  %y = ck.add %h, %v : tensor<7x32xf32>, tensor<7x32xf32> -> tensor<7x32xf32>
  func.return %y : tensor<7x32xf32>
}
"""


@cache
def text_after(text: str, last: type[ModulePass] | None) -> str:
    """The module after pass `last` of the pipeline."""
    module = parse(text)
    for kind in ORDER[: ORDER.index(last) + 1] if last else ():
        run_pass(context(), module, kind)
    return str(module)


def failure_of(
    text: str,
    last: type[ModulePass] | None,
    change: Callable[[ModuleOp], None],
    like: type[ModulePass] | None = None,
    tier: Tier = BITS,
) -> CheckFailure:
    """What the check of a pass says that does what `like` does, and `change` after it."""

    class WrongPass(ModulePass):
        name = "ck-wrong"
        TIER = getattr(like, "TIER", tier)

        def apply(self, ctx: object, op: ModuleOp) -> None:
            if like is not None:
                like().apply(context(), op)
            change(op)

    for name in ("JUDGE", "APART"):
        if hasattr(like, name):
            setattr(WrongPass, name, like.__dict__[name])
    module = parse(text_after(text, last))
    checker = Checker(module)
    before = str(module)
    run_pass(context(), module, WrongPass)
    with pytest.raises(CheckFailure) as caught:
        checker.after(WrongPass, module)
    failure = caught.value
    assert failure.before == before
    assert failure.pass_name == "ck-wrong"
    assert failure.exit_code == 5
    assert "ck-wrong" in str(failure)
    assert len(str(failure).splitlines()) == 1
    return failure


def first(module: ModuleOp, kind: type, number: int = 0) -> Any:
    """An op of that kind."""
    return [op for op in module.walk() if isinstance(op, kind)][number]


def test_swapped_operands() -> None:
    def swap(module: ModuleOp) -> None:
        product = first(module, LinearOp)
        product.operands[1] = first(module, LinearOp, 1).w

    failure = failure_of(ROWS, None, swap)
    assert (failure.function, failure.value) == ("f", "%u")
    assert failure.op.startswith("%u = ck.linear %h, %down")
    assert "changes what @f computes, case full: %u [0, 0] was " in str(failure)
    assert "where the pass promises equal bits, made by: %u = ck.linear" in str(failure)


def test_a_lost_accumulation() -> None:
    """A gradient that overwrites what earlier calls added."""

    def overwrite(module: ModuleOp) -> None:
        adds = [op for op in module.walk() if isinstance(op, Accumulates) and op.accumulator is not None]
        op = adds[0]
        fresh = type(op).create(
            operands=op.operands[:-1], result_types=op.result_types, properties=op.properties
        )
        Rewriter.replace_op(op, fresh)

    failure = failure_of(TRAINED, AddOptimizerPass, overwrite)
    assert failure.function == "f"
    assert failure.case in ("full", "ragged")


def test_gradients_that_are_returned_and_not_added() -> None:
    failure = failure_of(TRAINED, DifferentiatePass, _forget, AddOptimizerPass)
    assert "@f: the gradient of @down is not added to @grad.down" in str(failure)


def _forget(module: ModuleOp) -> None:
    product = next(op for op in module.walk() if isinstance(op, MatmulOp) and op.addend is not None)
    fresh = MatmulOp.build_op(product.a, product.b, form=product.form)
    Rewriter.replace_op(product, fresh)


def test_a_wrong_slope() -> None:
    def scale(module: ModuleOp) -> None:
        gradient = first(module, MatmulOp, 1)
        wrong = ScaleOp.build_op(gradient.a, factor=1.001)
        Rewriter.insert_op(wrong, InsertPoint.before(gradient))
        gradient.operands[0] = wrong.y

    failure = failure_of(TRAINED, None, scale, DifferentiatePass)
    assert "the gradient of @down is not the slope" in str(failure)
    assert "made by: %d_down = ck.matmul" in str(failure)


def test_more_than_roundings() -> None:
    """What a bound for bf16 lets through is seen without the roundings."""

    def scale(module: ModuleOp) -> None:
        norm = first(module, RmsNormOp)
        norm.properties["eps"] = FloatAttr(1.1e-5, f32)

    text = 'builtin.module attributes {ck.training = {dtype = "bf16"}} {' + TRAINED + "}"
    failure = failure_of(text, None, scale, AssignPrecisionPass)
    assert "@f: result 0 is another one even without rounded factors: [0, 0] was" in str(failure)


def test_a_weight_that_the_norm_leaves_out() -> None:
    def leave_out(module: ModuleOp) -> None:
        norm = first(module, GlobalNormOp)
        fresh = GlobalNormOp.build_op(*list(norm.operands)[:-1])
        Rewriter.insert_op(fresh, InsertPoint.before(norm))
        norm.norm.replace_all_uses_with(fresh.norm)
        Rewriter.erase_op(norm)

    failure = failure_of(TRAINED, DifferentiatePass, leave_out, AddOptimizerPass)
    assert "@grad_norm: norm and factor of all gradients: [0] was" in str(failure)


def swap_moment(module: ModuleOp) -> None:
    step = first(module, AdamwOp)
    step.operands[1], step.operands[2] = step.operands[2], step.operands[1]


def swap_gradients(module: ModuleOp) -> None:
    """Of two weights of one type."""
    one, other = first(module, AdamwOp), first(module, AdamwOp, 1)
    assert one.w.type == other.w.type
    leaves = one.g.owner.properties, other.g.owner.properties
    leaves[0]["symbol"], leaves[1]["symbol"] = leaves[1]["symbol"], leaves[0]["symbol"]


def draw_elsewhere(module: ModuleOp) -> None:
    first(module, AdamwOp).properties["toward"] = FloatAttr(0.5, f32)


def update_no_moment(module: ModuleOp) -> None:
    first(module, AdamwOp).m.owner.properties["symbol"] = SymbolRefAttr("adam_m.down")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap_moment, "@update: @grad.up is not zero afterwards"),
        (swap_gradients, "@update: @up does not move against its gradient"),
        (draw_elsewhere, "@update: @up does not decay towards 0"),
        (update_no_moment, "@update: @up has 1 state beside its gradient, others have 2"),
    ],
)
def test_an_update_of_the_wrong_state(change: Callable[[ModuleOp], None], words: str) -> None:
    failure = failure_of(TRAINED, DifferentiatePass, change, AddOptimizerPass)
    assert words in str(failure)
    assert failure.function == "update"


def test_a_sum_in_another_order() -> None:
    """Under BITS the order of a row's sum counts."""

    def reassociate(module: ModuleOp) -> None:
        for op in [op for op in module.walk() if isinstance(op, arith.AddfOp)]:
            left, right = op.lhs.owner, op.rhs.owner
            if isinstance(left, arith.AddfOp) and isinstance(right, arith.AddfOp):
                inner = arith.AddfOp(op.lhs, right.lhs)
                Rewriter.insert_op(inner, InsertPoint.before(op))
                op.operands[0], op.operands[1] = inner.result, right.rhs
                return
        raise AssertionError("no sum of two sums")

    failure = failure_of(ROWS, ExpandMathPass, reassociate)
    assert 0 < failure.error < 1e-10
    assert failure.op.startswith("rt.launch @rms_norm")


def test_a_shifted_view() -> None:
    def shift(module: ModuleOp) -> None:
        view, call = first(module, ViewOp), first(module, CallOp)
        moved = ViewOp.at(view.source, view.offset_bytes + 64, view.buffer.type)
        Rewriter.insert_op(moved, InsertPoint.before(call))
        call.operands[1] = moved.buffer

    failure = failure_of(ROWS, ScheduleThreadsPass, shift)
    assert failure.op.startswith("rt.call @ck_linear_f32")


def test_two_live_buffers_in_one_place() -> None:
    def alias(module: ModuleOp) -> None:
        views = [op for op in module.walk() if isinstance(op, ViewOp)]
        for view in views:
            view.properties["offset"] = IntegerAttr(0, i64)

    failure = failure_of(ROWS, ScheduleThreadsPass, alias)
    assert failure.function == "f"


def test_a_missing_barrier() -> None:
    """Found without running threads, in the pass that sets barriers."""

    def remove(module: ModuleOp) -> None:
        Rewriter.erase_op(first(module, BarrierOp))

    failure = failure_of(ROWS, ORDER[ORDER.index(ScheduleThreadsPass) - 1], remove, ScheduleThreadsPass)
    assert "ck-wrong: in @f 2 threads meet on 7 rows: no barrier stands between rt.launch @rms_norm" in str(
        failure
    )
    assert failure.op.startswith("rt.call @ck_linear_f32")


def test_a_lost_entry() -> None:
    def erase(module: ModuleOp) -> None:
        Rewriter.erase_op(find_function(module, "f"))

    assert "@f ran before the pass and does not after it: it is gone" in str(failure_of(ROWS, None, erase))


def test_a_result_less() -> None:
    def drop(module: ModuleOp) -> None:
        block = find_function(module, "f").body.block
        last = block.last_op
        assert last is not None
        Rewriter.replace_op(last, func.ReturnOp())

    failure = failure_of(ROWS, None, drop)
    assert str(failure).endswith("result 0 is gone where the pass promises equal bits")
    assert failure.value == "result 0"
