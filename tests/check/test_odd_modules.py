"""Whatever verifies can be checked: no function crashes the checker, and no right pass is called wrong."""

import shlex
from pathlib import Path

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.transforms.common_subexpression_elimination import CommonSubexpressionElimination

from ck.cli import opt
from ck.frontend.architectures import ARCHITECTURES
from ck.ir.check.checker import Checker
from ck.ir.check.failure import CheckFailure
from ck.ir.dialects import context
from ck.ir.rt.ops import BarrierOp, RepeatOp
from ck.passes.pipeline import ORDER, run_pass
from ck.passes.reroll_layers import RerollLayersPass
from ck.passes.schedule_threads import ScheduleThreadsPass
from tests.lit_inprocess import run_lines
from tests.passes.programs import parse
from tests.passes.training import module_of, template

TESTS = Path(__file__).parents[1]
FILES = sorted(path for folder in ("passes", "invalid") for path in (TESTS / folder).rglob("*.mlir"))
ROWS = """func.func @rows(%x: memref<4x16xf32>, %y: memref<4x16xf32>, %begin: index, %end: index) {
  %c0 = arith.constant 0 : index
  %v = vector.load %x[%begin, %c0] : memref<4x16xf32>, vector<16xf32>
  vector.store %v, %y[%end, %c0] : memref<4x16xf32>, vector<16xf32>
  func.return
}
func.func @calls(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) {
  %a = rt.alloc : memref<4x16xf32>
  rt.launch @g outs(%a : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.launch @g outs(%y : memref<4x16xf32>) ins(%a : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  func.return
}
"""

# Unlike a launch, a call split by columns reads every row in each thread.
READS_ALL = ROWS.replace("@calls", "@all").replace(
    "rt.launch @g outs(%y : memref<4x16xf32>) ins(%a : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}",
    'rt.call @k outs(%y : memref<4x16xf32>) ins(%a : memref<4x16xf32>) {immediates = {}, split = "cols"}',
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_lit_files_end_as_they_do_without_a_check(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every pass, on every form that its tests know."""
    for line in run_lines(path.read_text()):
        words = [word for word in shlex.split(line.split("|")[0]) if word not in ("not", "2>&1")]
        given = [str(path) if word == "%s" else word for word in words[1:]]
        code = opt.run(given)
        checked = ["--check", "--no-reduce", "--reproducer-dir", str(tmp_path)]
        assert opt.run([*given, *checked]) == code, f"{line}: {capsys.readouterr().err}"
    assert not list(tmp_path.iterdir())


# A module, a pass, and what the check says of it.
ODD = {
    "a declaration": ("func.func private @g(tensor<4x2xf32>)", "cse", ""),
    "ids of other sizes": (
        "func.func @f(%x: tensor<4x2xf32>, %ids: tensor<1xi32>, %more: tensor<4x3xi32>) -> tensor<4x2xf32> "
        "{\n  func.return %x : tensor<4x2xf32>\n}",
        "cse",
        "// check cse: @f not compared: its interpreter raised ValueError: could not broadcast",
    ),
    "no rows": (
        "func.func @f(%x: tensor<0x2xf32>) -> tensor<0x2xf32> {\n  func.return %x : tensor<0x2xf32>\n}",
        "cse",
        "// check @f: not executed: a public function of fixed sizes whose first argument has rows",
    ),
    "a weight of two sizes": (
        "func.func @f(%x: tensor<2x8xf32>, %w: tensor<8xf32>) -> tensor<2x8xf32> {\n"
        "  %b = ck.weight @b : tensor<8xf32>\n"
        "  %y = ck.bias_add %x, %b : tensor<2x8xf32>, tensor<8xf32> -> tensor<2x8xf32>\n"
        "  func.return %y : tensor<2x8xf32>\n}\n"
        "func.func @g(%x: tensor<2x4xf32>, %w: tensor<4xf32>) -> tensor<2x4xf32> {\n"
        "  %b = ck.weight @b : tensor<4xf32>\n"
        "  %y = ck.bias_add %x, %b : tensor<2x4xf32>, tensor<4xf32> -> tensor<2x4xf32>\n"
        "  func.return %y : tensor<2x4xf32>\n}",
        "ck-fuse-rows",
        "// check ck-fuse-rows: @g not compared: its interpreter raised ValueError: operands could not be",
    ),
    "a row kernel beside calls": (
        ROWS,
        "rt-schedule-threads",
        "@rows not compared: arith.constant is not an rt op",
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_functions_are_told_of(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, passes, said = ODD[what]
    file = tmp_path / "odd.mlir"
    file.write_text(text)
    assert opt.run([str(file), "-p", passes, "--check"]) == 0
    assert said in capsys.readouterr().err


def test_threads_are_held_apart_before_memory_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave_barriers_out(_self: ScheduleThreadsPass, _context: Context, module: ModuleOp) -> None:
        module.body.block.add_op(ModuleOp([]))

    file = tmp_path / "calls.mlir"
    file.write_text(READS_ALL)
    words = [str(file), "-p", "rt-schedule-threads", "--check", "--reproducer-dir", str(tmp_path)]
    assert opt.run(words) == 0
    monkeypatch.setattr(ScheduleThreadsPass, "apply", leave_barriers_out)
    assert opt.run(words) == 5
    assert "in @all 2 threads meet on 4 rows: no barrier stands between" in capsys.readouterr().err


def test_layers_may_be_rolled_up_before_barriers_are_set() -> None:
    module = module_of(template(sorted(ARCHITECTURES)[0])).module
    for kind in ORDER[: ORDER.index(ScheduleThreadsPass)]:
        run_pass(context(), module, kind)
    checker = Checker(module)
    run_pass(context(), module, RerollLayersPass)
    assert any(isinstance(op, RepeatOp) for op in module.walk())
    assert all(line.compared for line in checker.after(RerollLayersPass, module))


def test_any_pass_keeps_the_barriers() -> None:
    module = parse(READS_ALL)
    run_pass(context(), module, ScheduleThreadsPass)
    checker = Checker(module)
    for op in [op for op in module.walk() if isinstance(op, BarrierOp)]:
        op.detach()
    with pytest.raises(CheckFailure, match="in @all 2 threads meet on 4 rows: no barrier stands between"):
        checker.after(CommonSubexpressionElimination, module)
