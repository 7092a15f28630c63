"""The pipeline as a whole, on cuts of both demo models and on random graphs: what is stored is what goes on,
every product is called once, memory is near its bound, barriers stand where threads meet."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import networkx as nx
import pytest
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from ck.backend.c.program import emit_program
from ck.cli import opt
from ck.frontend.graph import Plan, build_graph, weight_type
from ck.frontend.model import open_model
from ck.ir.check.races import races, steps
from ck.ir.dialects import context
from ck.ir.evaluate import find_function
from ck.ir.op import CkOp, Product, RowWise, type_bytes
from ck.ir.ops.fused import FusedOp
from ck.ir.ops.weight import WeightOp
from ck.ir.rt.manifest import manifest_of
from ck.ir.rt.ops import ArenaOp, BarrierOp, ViewOp
from ck.ir.types import WeightType, shape
from ck.passes.fuse_linear import FuseLinearPass
from ck.passes.fuse_rows import FuseRowsPass
from ck.passes.pipeline import ORDER, STAGES, run_pass
from ck.passes.plan_memory import PlanMemoryPass, intervals, peak_bytes
from ck.passes.reroll_layers import RerollLayersPass
from tests.graphs.fixed import random_graph, values
from tests.models import MODELS, model_path
from tests.passes.programs import Program, model_program, parse, staged

SEEDS = range(2)
NAMES = [*MODELS, *(f"random-{seed}" for seed in SEEDS)]
STAGE_NAMES = [stage.name for stage in STAGES]
# The arena may exceed what is alive at once by this much: in a model, and in a random graph, where no plan
# without gaps need exist.
SLACK, RANDOM_SLACK = 1.05, 1.1
# Live rows of the capacity, and threads.
CREWS = ((1.0, 2), (1.0, 3), (0.7, 2), (0.0, 2))


@cache
def random_program(seed: int) -> Program:
    graph = random_graph(seed)
    return staged(graph.module, values(graph))


@pytest.fixture
def program(request: pytest.FixtureRequest, cut: Callable[..., Path]) -> Program:
    name: str = request.param
    if name in MODELS:
        return model_program(cut(name, 2, 512))
    return random_program(int(name.removeprefix("random-")))


every_program = pytest.mark.parametrize("program", NAMES, indirect=True)


def entries(module: ModuleOp) -> list[func.FuncOp]:
    return [op for op in module.ops if isinstance(op, func.FuncOp) and "ck.entry" in op.attributes]


def capacity_of(function: func.FuncOp) -> int:
    return shape(function.body.block.args[0].type)[0]


@cache
def c_of(program: Program) -> str:
    """The C of the pipeline in one go."""
    return emit_program(program.module("scheduled"))


@every_program
@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_stored_stage_is_the_program(program: Program, stage: str, tmp_path: Path) -> None:
    """Its text parses, verifies, prints as it was; ck-opt takes it the rest of the way to the same C."""
    assert str(program.module(stage)) == program.texts[stage]
    stored, made = tmp_path / "stored.mlir", tmp_path / "made.c"
    stored.write_text(program.texts[stage] + "\n")
    assert opt.run([str(stored), "-t", "c", "-o", str(made)]) == 0
    assert made.read_text() == c_of(program)


def products(function: func.FuncOp) -> Counter[str]:
    """How often each stored weight is multiplied with in a function of the graph."""
    counted: Counter[str] = Counter()
    for op in function.body.block.ops:
        if isinstance(op, Product):
            owners = [value.owner for value in op.operands if isinstance(value.type, WeightType)]
            counted.update(owner.symbol_name for owner in owners if isinstance(owner, WeightOp))
    return counted


# Kernels that take a weight and do not multiply it.
NO_PRODUCT = "ck_embed|ck_causal_conv1d"


@every_program
def test_every_product_is_one_call(program: Program) -> None:
    graph, scheduled = program.module("graph"), program.module("scheduled")
    assert [f.sym_name.data for f in entries(graph)] == [f.sym_name.data for f in entries(scheduled)]
    for function in entries(graph):
        called: Counter[str] = Counter()
        for step in steps(scheduled, function.sym_name.data):
            if step.op.name == "rt.call" and not re.search(NO_PRODUCT, str(step.op.properties["symbol"])):
                called.update(str(p.base) for v, p in step.ins if isinstance(v.type, WeightType))
        assert called == products(function)
        assert set(called.values()) <= {1}


@every_program
def test_everything_row_wise_is_fused(program: Program) -> None:
    module = program.before(FuseRowsPass)
    run_pass(context(), module, FuseRowsPass)
    for function in entries(module):
        for op in function.body.block.ops:
            assert not isinstance(op, RowWise), f"{op.name} stands outside a ck.fused"
            if isinstance(op, FusedOp):
                assert all(isinstance(inner, RowWise) for inner in list(op.block.ops)[:-1])


@every_program
def test_fusion_keeps_the_products(program: Program) -> None:
    module = program.before(FuseLinearPass)
    before = [products(function) for function in entries(module)]
    run_pass(context(), module, FuseLinearPass)
    assert [products(function) for function in entries(module)] == before


def users(value: SSAValue) -> list[CkOp]:
    """Ops that touch a buffer, through views too."""
    found = []
    for use in value.uses:
        found += users(use.operation.results[0]) if isinstance(use.operation, ViewOp) else [use.operation]
    return found


@every_program
def test_memory_is_planned(program: Program, request: pytest.FixtureRequest) -> None:
    """The arena is near the most that is alive at once, and no two live buffers share a byte."""
    slack = SLACK if request.node.callspec.params["program"] in MODELS else RANDOM_SLACK
    module = program.before(PlanMemoryPass)
    names = [function.sym_name.data for function in entries(module)]
    peaks = {name: peak_bytes(intervals(find_function(module, name).body.block)) for name in names}
    run_pass(context(), module, PlanMemoryPass)
    for name in names:
        block = find_function(module, name).body.block
        arenas = [op for op in block.ops if isinstance(op, ArenaOp)]
        size = sum(type_bytes(arena.buffer.type) for arena in arenas)
        assert size <= slack * peaks[name], f"@{name}: {size} bytes, {peaks[name]} alive at once"
        order = {op: place for place, op in enumerate(block.ops)}
        alive: nx.Graph = nx.Graph()
        spans = {}
        for arena in arenas:
            for use in arena.buffer.uses:
                view = use.operation
                assert isinstance(view, ViewOp)
                assert view.offset_bytes % 64 == 0
                places = [order[user] for user in users(view.buffer)]
                spans[view] = (min(places), max(places))
        for a in spans:
            for b in spans:
                if a is not b and spans[a][0] <= spans[b][1] and spans[b][0] <= spans[a][1]:
                    alive.add_edge(a, b)
        for a, b in alive.edges:
            ends = (a.offset_bytes + type_bytes(a.buffer.type), b.offset_bytes + type_bytes(b.buffer.type))
            assert ends[0] <= b.offset_bytes or ends[1] <= a.offset_bytes, (
                f"{a.buffer} and {b.buffer} share bytes"
            )


def crews(function: func.FuncOp) -> list[tuple[int, int, int]]:
    """(capacity, live rows, threads) to try."""
    capacity = capacity_of(function)
    return [(capacity, max(1, round(part * capacity)), nth) for part, nth in CREWS]


@every_program
def test_no_thread_meets_another(program: Program) -> None:
    module = program.module("scheduled")
    for function in entries(module):
        walk = steps(module, function.sym_name.data)
        for capacity, n, nth in crews(function):
            assert races(walk, capacity, n, nth) == 0, f"@{function.sym_name.data}, {n} rows, {nth} threads"


@every_program
def test_no_barrier_stands_in_vain(program: Program) -> None:
    """Without any one of them two threads would meet."""
    module = program.before(RerollLayersPass)
    for function in entries(module):
        walk = steps(module, function.sym_name.data)
        barriers = [step.op for step in walk if isinstance(step.op, BarrierOp)]
        for number, barrier in enumerate(barriers):
            met = any(races(walk, *crew, without=barrier) for crew in crews(function))
            assert met, f"@{function.sym_name.data}: barrier {number} of {len(barriers)} is redundant"


@pytest.mark.parametrize("name", MODELS)
def test_whole_models_fit_too(name: str, measured: Callable[[str], None]) -> None:
    """All layers, chunks of 512: the arena is what is alive at once, and no thread meets another."""
    source = open_model(model_path(name))
    storage = {key: weight_type(t.shape, t.storage.name) for key, t in source.file.tensors.items()}
    module = build_graph(source.hp, source.architecture, storage, Plan(512, 4096, "f16")).module
    for kind in ORDER:
        if kind is PlanMemoryPass:
            peaks = [peak_bytes(intervals(function.body.block)) for function in entries(module)]
        run_pass(context(), module, kind)
    assert manifest_of(module).arena_bytes <= SLACK * max(peaks)
    for function in entries(module):
        walk = steps(module, function.sym_name.data)
        assert not any(races(walk, *crew) for crew in crews(function))
        barriers = sum(isinstance(step.op, BarrierOp) for step in walk)
        measured(f"{name}: @{function.sym_name.data} has {len(walk) - barriers} calls, {barriers} barriers")


def test_the_judge_sees_a_missing_barrier() -> None:
    text = """
func.func @f(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) attributes {ck.entry} {
  %arena = rt.arena : memref<512xi8>
  %a = rt.view %arena[0] : memref<512xi8> -> memref<4x16xf32>
  rt.launch @g outs(%a : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.call @k outs(%y : memref<4x16xf32>) ins(%a, %n : memref<4x16xf32>, index)
    {immediates = {}, split = "SPLIT"}
  func.return
}
"""
    assert races(steps(parse(text.replace("SPLIT", "cols")), "f"), 4, 4, 2) == 1
    assert races(steps(parse(text.replace("SPLIT", "rows")), "f"), 4, 4, 2) == 0
