"""The reducer: what is left fails, is small, and says so again when it is reduced again."""

import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
from xdsl.dialects import func
from xdsl.dialects.builtin import IndexType, ModuleOp
from xdsl.parser import Parser

from ck.errors import UsageError
from ck.ir.dialects import context
from ck.ir.evaluate import Environment, evaluate
from ck.ir.functions import symbol_names
from ck.ir.ops.add import AddOp
from ck.ir.ops.fused import FusedOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.silu import SiluOp
from ck.ir.ops.weight import WeightOp
from ck.ir.reduce import Reduction, reduce_module
from ck.ir.reduce.search import WAYS
from ck.ir.reduce.way import Size, called
from ck.ir.rt.ops import CallOp, RepeatOp
from ck.ir.types import shape
from ck.passes.pipeline import run_stages
from tests.graphs.fixed import random_graph


def parse(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


def lose_a_gate(module: ModuleOp) -> None:
    """A product with a silu takes what the silu takes."""
    for op in list(module.walk()):
        if isinstance(op, MulOp):
            op.operands = [v.owner.x if isinstance(v.owner, SiluOp) else v for v in op.operands]


def lose_a_residual(module: ModuleOp) -> None:
    """A sum of a sum and a product is the sum alone."""
    for op in list(module.walk()):
        if isinstance(op, AddOp) and isinstance(op.a.owner, AddOp) and isinstance(op.b.owner, LinearOp):
            op.y.replace_all_uses_with(op.a)


def results(module: ModuleOp) -> list[Any]:
    """What every function gives on inputs that follow from names and types."""

    def values(name: str, sizes: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(sizes)

    weights = {
        op.symbol_name: values(op.symbol_name, shape(op.value.type))
        for op in module.walk()
        if isinstance(op, WeightOp)
    }
    found: list[Any] = []
    for op in module.ops:
        assert isinstance(op, func.FuncOp)
        args = [
            int(arg.name_hint == "n" and shape(op.args[0].type)[0])
            if isinstance(arg.type, IndexType)
            else np.zeros(shape(arg.type), np.int32)
            if "i32" in str(arg.type)
            else values(f"{n}", shape(arg.type))
            for n, arg in enumerate(op.args)
        ]
        found += evaluate(module, op.sym_name.data, args, Environment(weights))
    return found


def changes_the_meaning(wrong: Callable[[ModuleOp], None]) -> Callable[[ModuleOp], bool]:
    def fails(module: ModuleOp) -> bool:
        before = results(module)
        wrong(module)
        after = results(module)
        return not all(np.allclose(a, b, equal_nan=True) for a, b in zip(before, after, strict=True))

    return fails


def graphs_that_fail(wrong: Callable[[ModuleOp], None]) -> Iterator[ModuleOp]:
    """Random graphs to which a wrong pass does something."""
    for number in range(20):
        module = random_graph(number).module
        if changes_the_meaning(wrong)(module.clone()):
            yield module


@pytest.mark.parametrize("wrong", [lose_a_gate, lose_a_residual])
@pytest.mark.parametrize("place", [0, 1])
def test_a_wrong_pass_on_a_large_graph_leaves_a_few_ops(
    place: int, wrong: Callable[[ModuleOp], None], measured: Callable[[str], None]
) -> None:
    module = next(islice(graphs_that_fail(wrong), place, None))
    text, fails = str(module), changes_the_meaning(wrong)
    reduction = Reduction(module, fails)
    reduction.run()
    small = reduction.best
    measured(f"{wrong.__name__}, {place}: {Size.of(module)} -> {reduction.size}, {reduction.n_tested} tests")
    assert str(module) == text
    assert Size.of(module).n_ops > 60
    assert Size.of(small).n_ops <= 3
    assert fails(parse(str(small)))
    assert str(reduce_module(small, fails)) == str(small)
    assert str(reduce_module(module, fails)) == str(small)


def test_only_what_verifies_and_is_smaller_is_tried() -> None:
    wrong = changes_the_meaning(lose_a_gate)

    def fails(module: ModuleOp) -> bool:
        module.verify()
        if tried:
            assert Size.of(module) < reduction.size
        tried.append(module)
        return wrong(module)

    tried: list[ModuleOp] = []
    reduction = Reduction(next(graphs_that_fail(lose_a_gate)), fails)
    reduction.run()
    assert len(tried) == reduction.n_tested + 1
    assert len({str(module) for module in tried}) > 10


def test_another_way_to_break_is_not_the_failure() -> None:
    """Without the product the test breaks down: that is no reason to let the product go."""

    def fails(module: ModuleOp) -> bool:
        (found,) = [op for op in module.walk() if isinstance(op, MulOp)]
        return found.a is not None

    source = """
    func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
      %a = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
      %y = ck.mul %a, %x : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
      func.return %y : tensor<2x32xf32>
    }"""
    small = reduce_module(parse(source), fails)
    assert [op.name for op in small.walk() if op.name.startswith("ck.")] == ["ck.mul"]


def test_what_does_not_fail_is_refused() -> None:
    with pytest.raises(UsageError, match="reduce: a module that fails is required, this one does not"):
        reduce_module(random_graph(0).module, lambda module: False)


def test_it_stops_in_time_and_when_interrupted() -> None:
    module = random_graph(1).module
    assert str(reduce_module(module, lambda module: True, seconds=0)) == str(module)

    def interrupted(module: ModuleOp) -> bool:
        if reduction and reduction[0].n_tested == 5:
            raise KeyboardInterrupt
        return True

    reduction: list[Reduction] = []
    reduction.append(Reduction(module, interrupted))
    with pytest.raises(KeyboardInterrupt):
        reduction[0].run()
    assert reduction[0].size == Size.of(reduction[0].best) < Size.of(module)


def test_a_scheduled_program_stays_whole() -> None:
    module = random_graph(1).module
    for _ in run_stages(context(), module):
        pass

    def fails(module: ModuleOp) -> bool:
        text = str(module)
        are_whole.append(called(module) <= {op.sym_name.data for op in module.ops})
        return "rt.launch" in text and "math.sqrt" in text and "@ck_attention_" in text

    are_whole: list[bool] = []
    reduction = Reduction(module, fails)
    reduction.run()
    assert all(are_whole)
    parse(str(reduction.best))
    assert Size.of(module).n_ops > 500
    # The launch, the call, and in a loop a root of what a constant was spread to.
    assert reduction.size.n_ops <= 7
    assert len(reduction.best.ops) <= 3
    assert sum(isinstance(op, CallOp) for op in reduction.best.walk()) == 1


def test_tables_and_arenas_shrink() -> None:
    source = """
    func.func private @layer(%a: memref<4096xi8>, %at: index) {
      func.return
    }
    func.func @f(%x: memref<4x16xf32>, %n: index) {
      %a = rt.arena : memref<4096xi8>
      %v = rt.view %a[128] : memref<4096xi8> -> memref<4x16xf32>
      rt.repeat @layer(%a : memref<4096xi8>) table [[0], [64], [128]]
      rt.call @k outs(%v : memref<4x16xf32>) ins(%n : index) {immediates = {}, split = "rows"}
      func.return
    }"""

    def fails(module: ModuleOp) -> bool:
        rows = [row for op in module.walk() if isinstance(op, RepeatOp) for row in op.rows]
        return any(str(row[0]) == "64 : i64" for row in rows) and "rt.view" in str(module)

    small = str(reduce_module(parse(source), fails))
    assert "table [[64 : i64]]" in small
    # The view's own bytes, from its offset on.
    assert "memref<384xi8>" in small
    assert "rt.call" not in small


FUSED = """
func.func @f(%x: tensor<2x32xf32>, %y: tensor<2x32xf32>) -> (tensor<2x32xf32>, tensor<2x32xf32>) {
  %a, %b = ck.fused(%x, %y) {
  ^bb0(%p: tensor<2x32xf32>, %q: tensor<2x32xf32>):
    %s = ck.silu %p : tensor<2x32xf32> -> tensor<2x32xf32>
    %t = ck.silu %q : tensor<2x32xf32> -> tensor<2x32xf32>
    ck.yield %s, %t : tensor<2x32xf32>, tensor<2x32xf32>
  } : (tensor<2x32xf32>, tensor<2x32xf32>) -> (tensor<2x32xf32>, tensor<2x32xf32>)
  func.return %a, %b : tensor<2x32xf32>, tensor<2x32xf32>
}"""


def test_a_fused_region_opens_or_loses_what_nobody_reads() -> None:
    opened = reduce_module(parse(FUSED), lambda module: "ck.silu" in str(module))
    assert [op.name for op in opened.walk() if op.name.startswith("ck.")] == ["ck.silu"]

    def has_both(module: ModuleOp) -> bool:
        return any(isinstance(op, FusedOp) and "ck.silu" in str(op) for op in module.walk())

    (fused,) = (op for op in reduce_module(parse(FUSED), has_both).walk() if isinstance(op, FusedOp))
    assert (len(fused.inputs), len(fused.outputs)) == (1, 1)
    assert [op.name for op in fused.block.ops] == ["ck.silu", "ck.yield"]


def test_lists_lose_names() -> None:
    source = """
    func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> attributes {ck.trainable = [@a, @b, @c]} {
      %a = ck.weight @a : tensor<32xf32>
      %b = ck.weight @b : tensor<32xf32>
      %c = ck.weight @c : tensor<32xf32>
      %p = ck.rms_norm %x, %a {eps = 0.5 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
      %q = ck.rms_norm %p, %b {eps = 0.5 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
      %y = ck.rms_norm %q, %c {eps = 0.5 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
      func.return %y : tensor<2x32xf32>
    }"""

    def fails(module: ModuleOp) -> bool:
        weights = {op.symbol_name for op in module.walk() if isinstance(op, WeightOp)}
        (function,) = module.ops
        trained = set(symbol_names(function.attributes.get("ck.trainable")))
        return {"a", "b"} <= weights and "b" in trained and trained <= weights

    small = reduce_module(parse(source), fails)
    assert "ck.trainable = [@b]" in str(small)
    assert "@c" not in str(small)


def test_ways_are_told_apart() -> None:
    """A report names the way that made a module smaller."""
    assert len({way.name for way in WAYS}) == len(WAYS)
