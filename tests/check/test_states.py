"""The checker on recurrent layers: states are compared after every pass and in compiled programs."""

from ck.ir.check.checker import Checker
from ck.ir.check.runs import entries
from ck.ir.check.states import multiplied, read_by_id
from ck.runtime.check import check_road
from tests.passes.programs import parse

INFERENCE = """
func.func @prefill(%x: tensor<70x24xf32>, %n: index, %pos: index) -> tensor<70x16xf32> attributes {ck.entry} {
  %f = ck.weight @filter : !ck.q<24x4xbf16>
  %c = ck.cache @conv : !ck.state<3x24xf32>
  %m, %c2 = ck.causal_conv1d %c, %x, %f, %n, %pos
    : !ck.state<3x24xf32>, tensor<70x24xf32>, !ck.q<24x4xbf16> -> tensor<70x24xf32>, !ck.state<3x24xf32>
  %q, %r, %v = ck.split %m {sizes = array<i64: 4, 4, 16>}
    : tensor<70x24xf32> -> tensor<70x4xf32>, tensor<70x4xf32>, tensor<70x16xf32>
  %k = ck.l2_norm %r {eps = 1.0e-6 : f32} : tensor<70x4xf32> -> tensor<70x4xf32>
  %w = ck.weight @gates : !ck.q<2x24xf32>
  %a = ck.linear %x, %w : (tensor<70x24xf32>, !ck.q<2x24xf32>) -> tensor<70x2xf32>
  %beta = ck.sigmoid %a : tensor<70x2xf32> -> tensor<70x2xf32>
  %s = ck.softplus %a : tensor<70x2xf32> -> tensor<70x2xf32>
  %g = ck.scale %s {factor = -1.0 : f32} : tensor<70x2xf32> -> tensor<70x2xf32>
  %h = ck.cache @rule : !ck.state<2x4x8xf32>
  %y, %h2 = ck.delta_rule %h, %q, %k, %v, %g, %beta, %n, %pos
    {heads = 2 : i64, key_heads = 1 : i64, order = "grouped", scale = 0.5 : f32}
    : !ck.state<2x4x8xf32>, tensor<70x4xf32>, tensor<70x4xf32>, tensor<70x16xf32>, tensor<70x2xf32>,
      tensor<70x2xf32> -> tensor<70x16xf32>, !ck.state<2x4x8xf32>
  func.return %y : tensor<70x16xf32>
}
"""

TRAINING = """
func.func @eval(%tokens: tensor<9xi32>, %starts: tensor<9xi32>, %n: index) -> tensor<9x24xf32> {
  %t = ck.weight @table : !ck.q<11x24xf32, rows>
  %x = ck.embed %tokens, %t : tensor<9xi32>, !ck.q<11x24xf32, rows> -> tensor<9x24xf32>
  %f = ck.weight @filter : !ck.q<24x4xf32, rows>
  %y = ck.packed_conv1d %x, %f, %starts
    : (tensor<9x24xf32>, !ck.q<24x4xf32, rows>, tensor<9xi32>) -> tensor<9x24xf32>
  func.return %y : tensor<9x24xf32>
}
"""


def test_states_are_compared() -> None:
    """After every pass, and what both backends compile leaves the states that the interpreter leaves."""
    module = parse(INFERENCE)
    checker = Checker(module)
    (entry,) = entries(module)
    for case in checker.cases(entry):
        found = checker.outcomes[entry, case]
        assert not isinstance(found, str), found
        assert {"state of @conv", "state of @rule"} <= found.values.keys()
    assert "late" in {case.name for case in checker.cases(entry)}
    lines: list[str] = []
    check_road(module, {}, lines.append)
    assert any("check llvm" in line for line in lines)


def test_filters_are_no_tables() -> None:
    """Where documents begin is no id of a row."""
    module = parse(TRAINING)
    assert read_by_id(module).keys() == {"table"}
    assert multiplied(module) == {"filter"}
