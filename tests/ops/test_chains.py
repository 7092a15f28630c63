"""Several ops in one generated function: outputs that are read again, sums of what is never stored."""

from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from ck.ir.dialects import context
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.ops.fused import FusedOp
from ck.passes.fuse_rows import FuseRowsPass
from tests.ops.row_functions import (
    Libraries,
    assert_same_bits,
    compile_both,
    function_named,
    lower,
    run_loops,
)

ROWS = 5
WIDTHS = (17, 65, 100)
EPSILON = 2.0**-23

# What stands between two layers: the sum is a result too, and the second norm reads it after it was stored.
NORM_ADD_NORM = """
func.func @norm_add_norm_D(%x: tensor<5xDxf32>, %h: tensor<5xDxf32>, %v: tensor<Dxf32>, %w: tensor<Dxf32>)
    -> (tensor<5xDxf32>, tensor<5xDxf32>) {
  %a = ck.rms_norm %x, %v {eps = 1.0e-6 : f32} : tensor<5xDxf32>, tensor<Dxf32> -> tensor<5xDxf32>
  %s = ck.add %h, %a : tensor<5xDxf32>, tensor<5xDxf32> -> tensor<5xDxf32>
  %y = ck.rms_norm %s, %w {eps = 1.0e-6 : f32} : tensor<5xDxf32>, tensor<Dxf32> -> tensor<5xDxf32>
  func.return %s, %y : tensor<5xDxf32>, tensor<5xDxf32>
}
"""

SILU_MUL = """
func.func @silu_mul_D(%x: tensor<5xDxf32>, %h: tensor<5xDxf32>, %v: tensor<Dxf32>, %w: tensor<Dxf32>)
    -> tensor<5xDxf32> {
  %s = ck.silu %x : tensor<5xDxf32> -> tensor<5xDxf32>
  %y = ck.mul %s, %h : tensor<5xDxf32>, tensor<5xDxf32> -> tensor<5xDxf32>
  func.return %y : tensor<5xDxf32>
}
"""

# The norm sums a product that is no result: it is computed in both loops and stored in neither.
MUL_NORM = """
func.func @mul_norm_D(%x: tensor<5xDxf32>, %h: tensor<5xDxf32>, %v: tensor<Dxf32>, %w: tensor<Dxf32>)
    -> tensor<5xDxf32> {
  %p = ck.mul %x, %h : tensor<5xDxf32>, tensor<5xDxf32> -> tensor<5xDxf32>
  %y = ck.rms_norm %p, %w {eps = 1.0e-6 : f32} : tensor<5xDxf32>, tensor<Dxf32> -> tensor<5xDxf32>
  func.return %y : tensor<5xDxf32>
}
"""

CHAINS = {"norm_add_norm": NORM_ADD_NORM, "silu_mul": SILU_MUL, "mul_norm": MUL_NORM}
# Units of 2^-23 of a row's largest value: a norm has D/64 + 15 roundings, a sum or product one, silu four.
ROUNDINGS = 2 * (max(WIDTHS) / 64 + 15) + 6


def parse(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


@pytest.fixture(scope="module")
def plain() -> ModuleOp:
    """Every chain at every width, as separate ops."""
    return parse("".join(text.replace("D", str(width)) for text in CHAINS.values() for width in WIDTHS))


@pytest.fixture(scope="module")
def groups(plain: ModuleOp) -> dict[str, FusedOp]:
    """The one group that ck-fuse-rows makes of each."""
    fused = plain.clone()
    FuseRowsPass().apply(context(), fused)
    fused.verify()
    found: dict[str, FusedOp] = {}
    for chain in CHAINS:
        for width in WIDTHS:
            block = find_function(fused, f"{chain}_{width}").body.block
            (group,) = (op for op in block.ops if isinstance(op, FusedOp))
            found[f"{chain}_{width}"] = group
    return found


@pytest.fixture(scope="module")
def generated(groups: dict[str, FusedOp]) -> ModuleOp:
    return lower(groups)


@pytest.fixture(scope="module")
def compiled(generated: ModuleOp, tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    return compile_both(generated, tmp_path_factory.mktemp("chains"))


def arguments(width: int) -> dict[str, np.ndarray]:
    """The values of a chain's arguments, by their names."""
    rng = np.random.default_rng(width)
    sizes = {"x": (ROWS, width), "h": (ROWS, width), "v": (width,), "w": (width,)}
    return {name: rng.standard_normal(size, np.float32) for name, size in sizes.items()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("chain", CHAINS)
def test_one_function_does_what_the_ops_do(
    chain: str,
    width: int,
    plain: ModuleOp,
    groups: dict[str, FusedOp],
    generated: ModuleOp,
    compiled: Libraries,
) -> None:
    name, given = f"{chain}_{width}", arguments(width)
    group = groups[name]
    inputs = [given[value.name_hint or ""] for value in group.inputs]
    loops = run_loops(function_named(generated, name), group, inputs)
    assert_same_bits(compiled, name, group, inputs, loops)
    exact = [value.astype(np.float64) for value in given.values()]
    wanted = evaluate(plain, name, exact, Environment({}))
    assert len(loops) == len(wanted) == len(group.outputs)
    for got, want in zip(loops, wanted, strict=True):
        bound = EPSILON * ROUNDINGS * np.abs(want).max(-1, keepdims=True)
        assert (np.abs(got[:ROWS] - want) <= bound).all()


def test_nothing_is_stored_but_results(generated: ModuleOp) -> None:
    """A chain writes each result once a column: one store in the loop, one in the tail."""
    for chain, n_results in (("norm_add_norm", 2), ("silu_mul", 1), ("mul_norm", 1)):
        function = function_named(generated, f"{chain}_17")
        stores = [op.name for op in function.walk() if "store" in op.name]
        assert sorted(stores) == ["vector.maskedstore"] * n_results + ["vector.store"] * n_results
        assert not any(op.name == "memref.alloca" for op in function.walk())


# What is cut is a result too, and parts are read by a sum and elementwise; widths of no whole vector.
PARTS = """
func.func @parts(%x: tensor<5x100xf32>, %h: tensor<5x100xf32>)
    -> (tensor<5x100xf32>, tensor<5x33xf32>, tensor<5x50xf32>) {
  %s = ck.mul %x, %h : tensor<5x100xf32>, tensor<5x100xf32> -> tensor<5x100xf32>
  %a, %b, %c = ck.split %s {sizes = array<i64: 33, 17, 50>}
    : tensor<5x100xf32> -> tensor<5x33xf32>, tensor<5x17xf32>, tensor<5x50xf32>
  %g = ck.sigmoid %a : tensor<5x33xf32> -> tensor<5x33xf32>
  %y = ck.l2_norm %c {eps = 1.0e-6 : f32} : tensor<5x50xf32> -> tensor<5x50xf32>
  func.return %s, %g, %y : tensor<5x100xf32>, tensor<5x33xf32>, tensor<5x50xf32>
}
"""


def test_parts_of_a_result(tmp_path: Path) -> None:
    """A loop that stores a row walks all of it, whatever part is asked for."""
    module = parse(PARTS)
    fused = module.clone()
    FuseRowsPass().apply(context(), fused)
    (group,) = (op for op in find_function(fused, "parts").body.block.ops if isinstance(op, FusedOp))
    given = arguments(100)
    inputs = [given["x"], given["h"]]
    functions = lower({"parts": group})
    loops = run_loops(function_named(functions, "parts"), group, inputs)
    assert_same_bits(compile_both(functions, tmp_path), "parts", group, inputs, loops)
    exact = [value.astype(np.float64) for value in inputs]
    wanted = evaluate(module, "parts", exact, Environment({}))
    assert len(loops) == len(wanted)
    for got, want in zip(loops, wanted, strict=True):
        np.testing.assert_allclose(got[:ROWS], want, rtol=1e-5, atol=1e-6)
