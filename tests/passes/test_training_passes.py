"""A training program means the same at every stage, its gradient is the slope of its loss, and what is saved
or added in place changes no number."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Operation, SSAValue
from xdsl.transforms.common_subexpression_elimination import CommonSubexpressionElimination
from xdsl.transforms.dead_code_elimination import DeadCodeElimination

from ck.frontend.architectures import ARCHITECTURES
from ck.ir.check.races import races, steps
from ck.ir.dialects import context
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.op import CkOp, Updates, is_recomputed, is_state, type_bytes
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.weight import WeightOp
from ck.ir.rt.manifest import manifest_of
from ck.ir.rt.ops import AllocOp, ArenaOp, BarrierOp, ViewOp
from ck.ir.types import shape
from ck.passes.add_optimizer import AddOptimizerPass
from ck.passes.differentiate import DifferentiatePass, differentiate
from ck.passes.pipeline import TRAINING_STAGES, run_pass
from ck.passes.plan_memory import PlanMemoryPass, intervals, peak_bytes
from ck.passes.recompute_activations import RecomputeActivationsPass
from ck.passes.reroll_layers import RerollLayersPass
from tests.passes.programs import Program
from tests.passes.training import (
    BATCHES,
    ROWS,
    Arrays,
    Interpreted,
    compiled,
    compiled_step,
    first_weights,
    module_of,
    slopes,
    step,
    step_inputs,
    template,
    training_program,
)

FORMS = [(family, tied) for family in ARCHITECTURES for tied in (False, True)]
every_form = pytest.mark.parametrize(("family", "tied"), FORMS)
every_family = pytest.mark.parametrize("family", ARCHITECTURES)
# f32 sums in other orders: over a few rows and tens of columns, twice through two layers. A wrong term is a
# thousand times larger.
NMSE = 1e-10
BUDGETS = (1.0, 0.75, 0.5, 0.25, 0.0)
CREWS = ((ROWS, 2), (ROWS, 3), (7, 2), (1, 2))


@pytest.fixture(scope="module", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Programs that no earlier run of the tests has built."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("CK_CACHE_DIR", str(folder))
        yield folder


def worst(got: Arrays, want: Arrays) -> float:
    """The largest normalised mean squared error of any array; infinity where one is missing or no number."""
    assert got.keys() == want.keys()
    errors = []
    for name, expected in want.items():
        exact = expected.astype(np.float64)
        error, size = float(((got[name] - exact) ** 2).sum()), float((exact**2).sum())
        errors.append(error / size if size else error)
    return max(errors) if np.isfinite(errors).all() else np.inf


@cache
def meaning(family: str, tied: bool, stage: str = "differentiated") -> Arrays:
    return step(Interpreted(training_program(family, tied), stage))


@every_form
def test_the_loss_is_that_of_the_graph(family: str, tied: bool) -> None:
    """Differentiation leaves the forward pass as it is."""
    run = Interpreted(training_program(family, tied), "graph")
    for number, batch in enumerate(BATCHES):
        for entry in ("train_step", "eval"):
            nll = run(entry, step_inputs(batch))
            assert nll is not None
            np.testing.assert_array_equal(nll[: len(batch.tokens), 0], meaning(family, tied)[f"nll {number}"])


@pytest.mark.parametrize("stage", [stage.name for stage in TRAINING_STAGES[2:]])
@every_form
def test_every_stage_means_the_gradient(family: str, tied: bool, stage: str) -> None:
    assert worst(meaning(family, tied, stage), meaning(family, tied)) <= NMSE


@pytest.mark.parametrize("threads", [1, 2])
@every_form
def test_compiled_c_means_the_gradient(family: str, tied: bool, threads: int) -> None:
    got = compiled_step(compiled(family, tied, threads=threads))
    assert worst(got, meaning(family, tied)) <= NMSE


# The slope of the loss.


def differentiated(family: str, tied: bool) -> tuple[ModuleOp, Arrays]:
    """Forward and backward of a template, and its weights in f64."""
    of = template(family, tied)
    built = module_of(of)
    run_pass(context(), built.module, DifferentiatePass)
    built.module.verify()
    weights = {**built.constants, **first_weights(of)}
    return built.module, {name: value.astype(np.float64) for name, value in weights.items()}


def assert_gradient_is_the_slope(family: str, tied: bool) -> None:
    """Each tensor's gradient against central differences of the whole loss in f64, in a random direction."""
    module, weights = differentiated(family, tied)
    batch = BATCHES[0]
    names = [str(arg.name_hint) for arg in find_function(module, "train_step").body.block.args]
    inputs = step_inputs(batch, np.float64)

    def run(changed: Arrays) -> tuple[Any, ...]:
        given = [inputs[name] for name in names]
        return evaluate(module, "train_step", given, Environment({**weights, **changed}))

    def loss(changed: Arrays) -> float:
        return float((run(changed)[0][: len(batch.tokens), 0] * slopes(batch)).sum())

    rng, eps = np.random.default_rng(4), 1e-6
    for name, gradient in zip(template(family, tied).shapes, run({})[1:], strict=True):
        direction = rng.standard_normal(gradient.shape)
        up, down = (loss({name: weights[name] + sign * eps * direction}) for sign in (1, -1))
        size = float(np.abs(gradient * direction).sum())
        slope = (up - down) / (2 * eps)
        assert size > 1e-6, f"{name}: its gradient is nothing"
        assert abs(slope - float((gradient * direction).sum())) <= 1e-6 * size, f"{name}: not the slope"


@every_form
def test_the_gradient_is_the_slope_of_the_loss(family: str, tied: bool) -> None:
    assert_gradient_is_the_slope(family, tied)


@every_family
def test_a_broken_rule_is_seen(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth too much in one op's rule."""
    right = RmsNormOp.vjp

    def wrong(op: RmsNormOp, b: Any, dy: SSAValue) -> list[SSAValue]:
        dx, dw = right(op, b, dy)
        return [b.insert(ScaleOp.build_op(dx, factor=1.001)).y, dw]

    monkeypatch.setattr(RmsNormOp, "vjp", wrong)
    with pytest.raises(AssertionError, match="not the slope"):
        assert_gradient_is_the_slope(family, False)


def test_weights_may_be_chosen() -> None:
    """Only the gradients that are asked for, in that order, with the same numbers as among all."""
    module, weights = differentiated(ARCHITECTURES[0], False)
    wanted = ["blk.1.ffn_down.weight", "output_norm.weight"]
    some = module_of(template(ARCHITECTURES[0])).module
    differentiate(find_function(some, "train_step"), wanted)
    some.verify()
    names = list(template(ARCHITECTURES[0]).shapes)
    inputs = list(step_inputs(BATCHES[0], np.float64).values())
    all_of_them = evaluate(module, "train_step", inputs, Environment(weights))
    found = evaluate(some, "train_step", inputs, Environment(weights))
    for name, gradient in zip(wanted, found[1:], strict=True):
        np.testing.assert_array_equal(gradient, all_of_them[1 + names.index(name)])
    assert len(list(some.walk())) < len(list(module.walk())) - 50, "gradients that nobody wants were made"


# States.


@every_form
def test_nothing_is_accumulated_beside_its_state(family: str, tied: bool) -> None:
    """No buffer in @train_step has the shape of a weight."""
    block = find_function(training_program(family, tied).module("buffers"), "train_step").body.block
    shapes = set(template(family, tied).shapes.values())
    made = {shape(op.buffer.type) for op in block.ops if isinstance(op, AllocOp)}
    assert made
    assert not made & shapes


def writers(module: ModuleOp) -> list[str]:
    """The ops that write states, by name."""
    updates = (op for op in module.walk() if isinstance(op, Updates))
    return sorted(op.name for op in updates if any(is_state(old) for _, old in op.updated))


@every_form
def test_what_writes_a_state_stays(family: str, tied: bool) -> None:
    """Neither dead nor common: nothing reads the results, and two ops may add the same to two states."""
    module = training_program(family, tied).module("differentiated")
    before = writers(module)
    # One op a gradient, two where the embedding is the head; one an update.
    assert len(before) == 2 * len(template(family, tied).shapes) + tied
    for kind in (CommonSubexpressionElimination, DeadCodeElimination):
        kind().apply(context(), module)
    module.verify()
    assert writers(module) == before


def test_a_state_that_two_ops_update_holds_both() -> None:
    """The tied embedding: what the head's gradient wrote, plus that of the lookup."""
    family = ARCHITECTURES[0]
    module, weights = differentiated(family, True)
    start = np.full_like(weights["token_embd.weight"], 3.0)
    expected = (
        start
        + evaluate(
            module, "train_step", list(step_inputs(BATCHES[0], np.float64).values()), Environment(weights)
        )[1]
    )
    run_pass(context(), module, AddOptimizerPass)
    states = {name: np.zeros(sizes) for name, sizes in template(family, True).shapes.items()}
    kept = {**weights, **{f"grad.{name}": value for name, value in states.items()}}
    kept["grad.token_embd.weight"] = start
    evaluate(module, "train_step", list(step_inputs(BATCHES[0], np.float64).values()), Environment(kept))
    np.testing.assert_allclose(kept["grad.token_embd.weight"], expected, rtol=1e-12)


# Recomputation.


def saved_bytes(module: ModuleOp) -> int:
    """Bytes that the backward pass reads of the forward pass, but for its first op, which follows at once.

    A view counts as its source.
    """
    block = find_function(module, "train_step").body.block
    backward: set[Operation] = set()
    late: set[SSAValue] = {arg for arg in block.args if arg.name_hint == "d_nll"}
    for op in block.ops:
        if is_recomputed(op) or any(operand in late for operand in op.operands):
            backward.add(op)
            late.update(op.results)
    readers = [op for op in block.ops if op in backward and not isinstance(op, ReturnOp)][1:]
    saved = {root(v) for op in readers for v in op.operands if is_made(v) and v.owner not in backward}
    return sum(type_bytes(value.type) for value in saved)


def root(value: SSAValue) -> SSAValue:
    return root(value.owner.x) if isinstance(value.owner, ReshapeOp) else value


def is_made(value: SSAValue) -> bool:
    return isinstance(value.owner, CkOp) and not isinstance(value.owner, WeightOp)


@every_family
def test_no_more_is_saved_than_the_budget_allows(family: str) -> None:
    """Or the least there is: less than half, in a stack of two layers."""
    saved: list[int] = []
    for budget in BUDGETS:
        module = module_of(template(family), budget=budget).module
        for kind in (DifferentiatePass, RecomputeActivationsPass):
            run_pass(context(), module, kind)
            module.verify()
        saved.append(saved_bytes(module))
    least = saved[-1]
    assert 0 < least < 0.5 * saved[0]
    for budget, n_bytes in zip(BUDGETS, saved, strict=True):
        assert n_bytes <= max(budget * saved[0], least), f"budget {budget}"
    assert saved == sorted(saved, reverse=True)


@every_family
def test_recomputing_changes_memory_alone(family: str) -> None:
    """Every budget gives the bits of budget 1, in an arena that gets smaller and smaller."""
    whole = compiled_step(compiled(family))
    sizes: list[int] = []
    for budget in BUDGETS:
        made = compiled(family, activation_budget=budget)
        sizes.append(made.program.manifest.arena_bytes)
        for name, values in compiled_step(made).items():
            assert values.tobytes() == whole[name].tobytes(), f"budget {budget}: {name} differs"
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.75 * sizes[0]


@every_family
def test_what_is_recomputed_stays_late(family: str) -> None:
    """After fusion no recomputed op stands before the loss, which is computed once."""
    block = find_function(training_program(family, budget=0.0).module("fused"), "train_step").body.block
    ops = list(block.ops)
    (loss,) = (place for place, op in enumerate(ops) if op.name.startswith("ck.cross_entropy"))
    again = [place for place, op in enumerate(ops) if any(is_recomputed(inner) for inner in op.walk())]
    assert again
    assert min(again) > loss


# bf16.


@every_family
def test_bf16_means_the_same_at_every_stage(family: str) -> None:
    """And is another number than f32. Where a factor rounds the other way a row moves by 2^-9 of one term."""
    program = training_program(family, dtype="bf16")
    want = step(Interpreted(program, "kernels"))
    assert worst(want, meaning(family, False)) > 1e-7
    assert worst(step(Interpreted(program, "scheduled")), want) <= 1e-5
    assert worst(compiled_step(compiled(family, dtype="bf16")), want) <= 1e-5


# Memory and threads.


@pytest.mark.parametrize("budget", [1.0, 0.0])
@every_family
def test_memory_is_planned(family: str, budget: float) -> None:
    """The arena ends where its last buffer does, near the most that is alive at once; none overlap."""
    program = training_program(family, budget=budget)
    module = program.before(PlanMemoryPass)
    before = {name: intervals(find_function(module, name).body.block) for name in ("train_step", "eval")}
    run_pass(context(), module, PlanMemoryPass)
    for name, buffers in before.items():
        block = find_function(module, name).body.block
        (arena,) = (op for op in block.ops if isinstance(op, ArenaOp))
        views = [use.operation for use in arena.buffer.uses]
        ends = [v.offset_bytes + type_bytes(v.buffer.type) for v in views if isinstance(v, ViewOp)]
        size = type_bytes(arena.buffer.type)
        assert len(ends) == len(buffers)
        assert size - 64 < max(ends) <= size
        assert size <= 1.1 * peak_bytes(buffers)
    planned = max(type_bytes(op.buffer.type) for op in module.walk() if isinstance(op, ArenaOp))
    assert manifest_of(program.module("scheduled")).arena_bytes == planned


@every_form
def test_no_thread_meets_another(family: str, tied: bool) -> None:
    """In states too, which all threads may write."""
    module = training_program(family, tied).module("scheduled")
    for entry in ("train_step", "eval", "grad_norm", "update"):
        walk = steps(module, entry)
        for n, nth in CREWS:
            assert races(walk, ROWS, n, nth) == 0, f"@{entry}, {n} rows, {nth} threads"


@every_family
def test_no_barrier_stands_in_vain(family: str) -> None:
    module = training_program(family).before(RerollLayersPass)
    walk = steps(module, "train_step")
    for number, barrier in enumerate([op.op for op in walk if isinstance(op.op, BarrierOp)]):
        assert any(races(walk, ROWS, *crew, without=barrier) for crew in CREWS), f"barrier {number}"


@every_family
def test_a_stored_stage_is_the_program(family: str) -> None:
    """Text parses, verifies and prints as it was."""
    program: Program = training_program(family)
    for stage, text in program.texts.items():
        assert str(program.module(stage)) == text
