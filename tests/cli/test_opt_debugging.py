"""What a pass that crashes and a failed check leave, and that it replays."""

from collections.abc import Callable
from pathlib import Path

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp, f32
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.utils.exceptions import PassFailedException

from ck.backend.backends import CBackend
from ck.cli import opt
from ck.errors import InternalError, UnsupportedError
from ck.ir.dialects import context
from ck.ir.functions import symbol_names
from ck.ir.ops.mul import MulOp
from ck.ir.ops.silu import SiluOp
from ck.ir.reduce import Reduction
from ck.ir.reduce.way import Size, does_something
from ck.passes.fuse_rows import FuseRowsPass
from tests.graphs.fixed import random_graph

ROW = """// a gate
func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %a = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  %b = ck.scale %a {factor = 2.0 : f32} : tensor<2x32xf32> -> tensor<2x32xf32>
  %y = ck.mul %b, %x : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
"""
Apply = Callable[[FuseRowsPass, Context, ModuleOp], None]


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CK_TRACEBACK", raising=False)
    Path("row.mlir").write_text(ROW)
    return "row.mlir"


@pytest.fixture
def fuse_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[Apply], None]:
    """Call to put something else in the place of what ck-fuse-rows does."""
    return lambda apply: monkeypatch.setattr(FuseRowsPass, "apply", apply)


def raising(error: Exception) -> Apply:
    def apply(self: FuseRowsPass, ctx: Context, module: ModuleOp) -> None:
        next(iter(module.walk())).attributes.clear()
        raise error

    return apply


def left() -> list[Path]:
    """Reproducers in the working directory."""
    return sorted(Path().glob("ck-reproducer-*.mlir"))


@pytest.mark.parametrize(
    "error", [KeyError("x"), AssertionError("two\nlines"), InternalError("C: no"), RecursionError("deep")]
)
def test_a_crash_leaves_a_file_that_replays_it(
    row: str,
    error: Exception,
    fuse_rows: Callable[[Apply], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(FuseRowsPass, "apply", raising(error))
        assert opt.run([row, "-p", "cse,ck-fuse-rows,ck-expand-math"]) == 70
        out, err = capsys.readouterr()
        (file,) = left()
        why = f"ck-fuse-rows raised {type(error).__name__}: {' '.join(str(error).split())}"
        assert out == ""
        assert err.splitlines() == [
            f"ck-opt: this is a defect in ck: {why}",
            f"ck-opt: {file} holds the IR before it; to replay it: ck-opt --reproduce {file}",
        ]
        first, second, *_ = file.read_text().splitlines()
        assert first == f"// ck-opt reproducer: {why}"
        assert second == "// configuration: --passes=ck-fuse-rows"
        assert "//   tests/cli/test_opt_debugging.py:" in file.read_text()
        assert opt.run(["--reproduce", str(file)]) == 70
        assert capsys.readouterr().err.splitlines() == [f"ck-opt: this is a defect in ck: {why}"]
        assert left() == [file]
    assert opt.run(["--reproduce", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: does not fail any more\n"


def test_what_a_pass_declines_is_no_crash(
    row: str, fuse_rows: Callable[[Apply], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fuse_rows(raising(PassFailedException("not this")))
    assert opt.run([row, "-p", "ck-fuse-rows"]) == 3
    fuse_rows(raising(UnsupportedError("row.mlir: not this either")))
    assert opt.run([row, "-p", "ck-fuse-rows"]) == 4
    assert capsys.readouterr().err.splitlines() == [
        "ck-opt: row.mlir: not this",
        "ck-opt: row.mlir: not this either",
    ]
    assert left() == []


def test_what_does_not_verify_is_the_pass_to_blame(
    row: str, fuse_rows: Callable[[Apply], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def forget_the_scale(self: FuseRowsPass, ctx: Context, module: ModuleOp) -> None:
        (scale,) = (op for op in module.walk() if op.name == "ck.scale")
        del scale.properties["factor"]

    fuse_rows(forget_the_scale)
    assert opt.run([row, "-p", "ck-fuse-rows"]) == 70
    assert "ck-fuse-rows left what does not verify: " in capsys.readouterr().err
    (file,) = left()
    assert opt.run(["--reproduce", str(file)]) == 70
    assert opt.run([row, "-p", "ck-fuse-rows", "--disable-verify", "-t", "mlir", "-o", "out"]) == 0


def test_the_traceback_is_printed_when_asked_for(
    row: str,
    fuse_rows: Callable[[Apply], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CK_TRACEBACK", "1")
    fuse_rows(raising(KeyError("x")))
    assert opt.run([row, "-p", "ck-fuse-rows"]) == 70
    assert "Traceback (most recent call last):" in capsys.readouterr().err


def test_reproducers_go_where_they_are_told(
    row: str, fuse_rows: Callable[[Apply], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fuse_rows(raising(KeyError("x")))
    assert opt.run([row, "-p", "ck-fuse-rows", "--reproducer-dir", "a/b"]) == 70
    (file,) = Path("a/b").iterdir()
    assert f"to replay it: ck-opt --reproduce {file}" in capsys.readouterr().err
    assert opt.run([row, "-p", "ck-fuse-rows", "--reproducer-dir", f"{row}/c"]) == 70
    assert (
        "ck-opt: no reproducer: row.mlir/c: a directory that can be written is required, not a directory"
        in capsys.readouterr().err
    )


def test_options_of_a_pass_are_kept(
    row: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ck.passes.recompute_activations import RecomputeActivationsPass

    def crash(self: RecomputeActivationsPass, ctx: Context, module: ModuleOp) -> None:
        raise KeyError(self.budget)

    monkeypatch.setattr(RecomputeActivationsPass, "apply", crash)
    assert opt.run([row, "-p", "ck-recompute-activations{budget=0.5}"]) == 70
    (file,) = left()
    capsys.readouterr()
    assert opt.run(["--reproduce", str(file)]) == 70
    assert "raised KeyError: 0.5" in capsys.readouterr().err


def test_a_target_that_crashes_is_replayed_too(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert opt.run([row, "-t", "c"]) == 70
    (file,) = left()
    assert file.name.startswith("ck-reproducer-target-c-")
    capsys.readouterr()
    assert opt.run(["--reproduce", str(file)]) == 70
    assert "target c raised InternalError: " in capsys.readouterr().err


def lose_gates(self: FuseRowsPass, ctx: Context, module: ModuleOp) -> None:
    """Wrong: a product with a silu takes what the silu takes."""
    for op in list(module.walk()):
        if isinstance(op, MulOp):
            op.operands = [v.owner.x if isinstance(v.owner, SiluOp) else v for v in op.operands]


@pytest.fixture
def graph(row: str) -> Path:
    path = Path("graph.mlir")
    modules = (random_graph(number).module for number in range(100))
    path.write_text(str(next(module for module in modules if any(map(is_gated, module.walk())))))
    return path


def is_gated(op: Operation) -> bool:
    return isinstance(op, MulOp) and any(isinstance(value.owner, SiluOp) for value in op.operands)


def test_a_failed_check_leaves_a_small_file(
    graph: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(FuseRowsPass, "apply", lose_gates)
        assert opt.run([str(graph), "-p", "cse,ck-fuse-rows,dce", "--check"]) == 5
        (file,) = left()
        err = capsys.readouterr().err
        assert "ck-opt: ck-fuse-rows changes what @prefill computes, case " in err
        assert f"to replay it: ck-opt --reproduce {file}" in err.splitlines()[-1]
        assert file.read_text().splitlines()[1] == "// configuration: --passes=ck-fuse-rows --check"
        module = Parser(context(), file.read_text()).parse_module()
        assert Size.of(module).n_ops <= 4
        assert opt.run(["--reproduce", str(file)]) == 5
        err = capsys.readouterr().err
        assert "ck-opt: ck-fuse-rows changes what @" in err
        assert "reproducer" not in err
        assert left() == [file]
    assert opt.run(["--reproduce", str(file)]) == 0
    assert "does not fail any more" in capsys.readouterr().out


def test_a_failed_check_keeps_the_ir_whole_when_told(graph: Path, fuse_rows: Callable[[Apply], None]) -> None:
    fuse_rows(lose_gates)
    assert opt.run([str(graph), "-p", "ck-fuse-rows", "--check", "--no-reduce"]) == 5
    (file,) = left()
    assert Size.of(Parser(context(), file.read_text()).parse_module()).n_ops > 60
    assert opt.run(["--reproduce", str(file)]) == 5


def test_who_interrupts_the_shrinking_gets_the_smallest_so_far(
    graph: Path, fuse_rows: Callable[[Apply], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = iter(range(30))

    def has_time(_: Reduction) -> bool:
        if next(looked_at, None) is None:
            raise KeyboardInterrupt
        return True

    fuse_rows(lose_gates)
    monkeypatch.setattr(Reduction, "_has_time", has_time)
    assert opt.run([str(graph), "-p", "ck-fuse-rows", "--check"]) == 5
    (file,) = left()
    n_ops = Size.of(Parser(context(), file.read_text()).parse_module()).n_ops
    assert 4 < n_ops < Size.of(Parser(context(), graph.read_text()).parse_module()).n_ops
    assert opt.run(["--reproduce", str(file)]) == 5


TRAINED = """
func.func @f(%x: tensor<2x32xf32>, %n: index) -> tensor<2x32xf32> attributes {ck.trainable = [@a, @b, @c]} {
  %a = ck.weight @a : !ck.q<32x32xf32, rows>
  %b = ck.weight @b : !ck.q<32x32xf32, rows>
  %c = ck.weight @c : tensor<32xf32>
  %d = ck.linear %x, %a : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %e = ck.linear %d, %b : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %m = ck.mul %d, %e : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  %y = ck.rms_norm %m, %c {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}"""


def test_a_wrong_gradient_is_left_with_the_weight_that_shows_it(
    row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vjp = MulOp.vjp
    monkeypatch.setattr(MulOp, "vjp", lambda self, b, dy: tuple(reversed(list(vjp(self, b, dy)))))
    Path("trained.mlir").write_text(TRAINED)
    assert opt.run(["trained.mlir", "-p", "ck-differentiate", "--check"]) == 5
    (file,) = left()
    module = Parser(context(), file.read_text()).parse_module()
    assert [op.name for op in module.walk() if does_something(op)] == ["ck.linear", "ck.mul"]
    (function,) = module.ops
    assert len(symbol_names(function.attributes["ck.trainable"])) == 1


def test_another_failure_of_the_same_pass_is_not_mistaken_for_it(
    row: str, fuse_rows: Callable[[Apply], None]
) -> None:
    """Where the product is gone, a wrong factor is what fails: another defect, though of fewer ops."""

    def wrong_twice(self: FuseRowsPass, ctx: Context, module: ModuleOp) -> None:
        ops = {op.name: op for op in module.walk()}
        if "ck.mul" in ops:
            ops["ck.mul"].operands = [ops["ck.mul"].operands[0]] * 2
        elif "ck.scale" in ops:
            ops["ck.scale"].properties["factor"] = FloatAttr(3.0, f32)

    fuse_rows(wrong_twice)
    assert opt.run([row, "-p", "ck-fuse-rows", "--check"]) == 5
    (file,) = left()
    module = Parser(context(), file.read_text()).parse_module()
    assert [op.name for op in module.walk() if does_something(op)] == ["ck.mul"]


PROGRAM = """
func.func @f(%x: tensor<2x32xf32>, %n: index) -> tensor<2x32xf32> attributes {ck.entry} {
  %a = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  %y = ck.scale %a {factor = 2.0 : f32} : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}"""
ALL = (
    "ck-fuse-rows,ck-assign-layouts,ck-select-kernels,ck-bufferize,ck-expand-math,rt-plan-memory,"
    "rt-schedule-threads"
)


def test_a_complete_program_is_compiled_and_checked(
    row: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    Path("program.mlir").write_text(PROGRAM)
    assert opt.run(["program.mlir", "-p", ALL.removesuffix(",rt-schedule-threads"), "--check"]) == 0
    assert "// check c: " not in capsys.readouterr().err
    assert opt.run(["program.mlir", "-p", ALL, "--check"]) == 0
    err = capsys.readouterr().err
    assert "// check c: @f differs by " in err
    assert "// check llvm: @f differs by " in err

    with monkeypatch.context() as broken:
        emit = CBackend.emit
        broken.setattr(CBackend, "emit", lambda self, module: emit(self, module).replace("2.0f", "2.5f"))
        assert opt.run(["program.mlir", "-p", ALL, "--check"]) == 5
        (file,) = left()
        assert "c on 1 thread, against the interpreter" in capsys.readouterr().err
        assert file.read_text().splitlines()[1] == "// configuration: --check"
        assert opt.run(["--reproduce", str(file)]) == 5
    assert opt.run(["--reproduce", str(file)]) == 0


FIRST = "// ck-opt reproducer: why\n"


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (None, 2, "file.mlir: no such file"),
        (ROW, 3, "file.mlir: a reproducer begins with the lines '// ck-opt reproducer:' and '// config"),
        (FIRST, 3, "file.mlir: a reproducer begins with the lines "),
        (FIRST + "// configuration: -o /etc/passwd\n", 3, "takes --passes, --target and --check, got -o"),
        (FIRST + "// configuration: --passes='\n", 3, "file.mlir: its configuration cannot be read: "),
        (FIRST + "// configuration: --passes\n", 3, "file.mlir: its configuration cannot be read: "),
        (FIRST + "// configuration: --passes=none\n", 2, "--passes: Unrecognized passes: ['none']"),
        (
            FIRST + "// configuration: --target=none\n",
            2,
            "file.mlir: --target takes one of mlir, c, llvm, got none",
        ),
        (FIRST + "// configuration: --passes=cse\nfunc.func @f( {", 3, "file.mlir:3:"),
        ("// ck-opt reproducer: \udcff", 3, "file.mlir: a reproducer is UTF-8 text, byte 22 is not"),
    ],
)
def test_files_that_are_no_reproducers(
    row: str, text: str | None, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        Path("file.mlir").write_text(text, errors="surrogateescape")
    assert opt.run(["--reproduce", "file.mlir"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reproduce", "row.mlir", "row.mlir"], "ck-opt: takes one file, got row.mlir and row.mlir"),
        (["--reproduce", "row.mlir", "-p", "cse"], "--reproduce: the file says which passes to run"),
    ],
)
def test_arguments_that_do_not_go_together(
    row: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert opt.run(arguments) == 2
    assert message in capsys.readouterr().err
