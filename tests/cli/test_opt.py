"""ck-opt: what goes to which stream, its exit codes, its start."""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.exceptions import VerifyException

from ck.cli import opt
from ck.cli.opt_arguments import EXIT_CODES
from ck.ir.ops.silu import SiluOp
from ck.ir.types import WeightType
from ck.passes.fuse_rows import FuseRowsPass
from ck.passes.pipeline import ORDER

ROW = """
func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %a = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  %y = ck.silu %a : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
"""


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # What a crash leaves lies in the working directory.
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "row.mlir"
    path.write_text(ROW)
    return str(path)


def test_ir_goes_to_stdout_and_the_rest_to_stderr(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert opt.run([row, "-p", "ck-fuse-rows,cse", "--print-after", "ck-fuse-rows", "--time-passes"]) == 0
    out, err = capsys.readouterr()
    assert out.count("builtin.module") == 1
    assert "ck.fused" in out
    first, *rest = err.splitlines()
    assert first.startswith("// after ck-fuse-rows: ")
    assert first.endswith(" ms, 5 -> 7 ops")
    assert rest[0] == "builtin.module {"
    assert rest[-1].startswith("// after cse: ")


def test_between_passes_leaves_out_the_last(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert opt.run([row, "-p", "ck-fuse-linear,ck-fuse-rows", "--print-between-passes"]) == 0
    err = capsys.readouterr().err
    assert "// after ck-fuse-linear" in err
    assert "// after ck-fuse-rows" not in err


def test_check_executes_before_and_after(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert opt.run([row, "-p", "ck-fuse-rows,ck-expand-math", "--check"]) == 0
    err = capsys.readouterr().err
    assert err.splitlines() == [
        "// check ck-fuse-rows: @f differs by 0.0e+00 of 0e+00",
        "// check ck-expand-math: @f differs by 0.0e+00 of 1e-09",
    ]


def test_check_goes_with_a_target_to_its_end(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    header = "%x: tensor<2x32xf32>, %n: index) -> tensor<2x32xf32> attributes {ck.entry}"
    Path(row).write_text(ROW.replace("%x: tensor<2x32xf32>) -> tensor<2x32xf32>", header))
    assert opt.run([row, "-p", "cse", "-t", "c"]) == 0
    unchecked = capsys.readouterr().out
    assert opt.run([row, "-p", "cse", "-t", "c", "--check"]) == 0
    out, err = capsys.readouterr()
    assert out == unchecked
    checked = [line.split()[2] for line in err.splitlines()]
    assert checked == [f"{name}:" for name in ("cse", *(kind.name for kind in ORDER), "c", "llvm")]


def test_check_catches_a_pass_that_changes_the_meaning(
    row: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop_one(self: FuseRowsPass, ctx: object, module: ModuleOp) -> None:
        first, *_ = (op for op in module.walk() if isinstance(op, SiluOp))
        first.y.replace_all_uses_with(first.x)

    monkeypatch.setattr(FuseRowsPass, "apply", drop_one)
    assert opt.run([row, "-p", "ck-fuse-rows", "--check"]) == 5
    assert "ck-opt: ck-fuse-rows changes what @f computes, case " in capsys.readouterr().err


def test_check_says_what_it_did_not_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "launch.mlir"
    path.write_text("""
    func.func @f(%x: memref<4x16xf32>, %n: index) {
      rt.launch @g outs(%x : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      func.return
    }""")
    assert opt.run([str(path), "-p", "rt-schedule-threads", "--check"]) == 0
    assert "@f not compared: the module has no function @g" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-p", "ck-nonsense"], 2, "ck-opt: --passes: Unrecognized passes: ['ck-nonsense']"),
        (["-p", "cse{a="], 2, "ck-opt: --passes: Unknown argument value, wrap"),
        (["-p", "../cse"], 2, "ck-opt: --passes: Unknown token"),
        (["-t", "c{"], 2, "ck-opt: --target: Expected argument name here"),
        (["-t", "c{width=4}"], 2, 'ck-opt: --target: Provided arguments ["width"] not found'),
        (
            ["-o", "none/out.mlir"],
            2,
            "ck-opt: none/out.mlir: must be a file that can be written, No such file",
        ),
        (["-o", ""], 2, "ck-opt: output: the name of a file is required, found an empty one"),
        (["-o", "/dev/full"], 8, "ck-opt: /dev/full: No space left on device"),
        (["--print-after", "ck-nonsense"], 2, "ck-opt: --print-after: takes one of "),
        (["-p", "ck-select-kernels"], 3, "ck.silu stands outside ck.fused: run ck-fuse-rows before"),
        (["-t", "c"], 70, "ck-opt: this is a defect in ck: target c raised InternalError: C: no spelling "),
    ],
)
def test_failures(
    row: str, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert opt.run([row, *arguments]) == code
    assert message in capsys.readouterr().err


def test_help_names_every_exit_code() -> None:
    named = re.findall(r"[:,] (\d+) ", " ".join(EXIT_CODES.split()))
    assert named == ["0", "2", "3", "5", "6", "8", "70", "130"]


def test_the_result_may_take_the_place_of_what_was_read(row: str) -> None:
    assert opt.run([row, "-p", "ck-fuse-rows", "-o", row]) == 0
    assert "ck.fused" in Path(row).read_text()


def test_verification_is_left_out_between_passes_alone(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert opt.run([row, "-p", "ck-fuse-rows", "--disable-verify"]) == 0
    with pytest.raises(VerifyException, match="rows of q8_0 are multiples of 32, got 1"):
        WeightType.of((1, 1), "q8_0")


@pytest.mark.parametrize("words", [["-p", "ck-select-kernels"], ["-t", "c"]])
def test_what_fails_writes_nothing(row: str, words: list[str]) -> None:
    Path("out").write_text("as it was")
    assert opt.run([row, *words, "-o", "out"]) != 0
    assert Path("out").read_text() == "as it was"


def test_ir_comes_down_a_pipe(row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as writer:
        writer.submit(pipe.write_text, ROW)
        assert opt.run([str(pipe)]) == 0
    assert "ck.silu" in capsys.readouterr().out
    # It cannot be read twice.
    assert opt.run(["--reproduce", str(pipe)]) == 2
    done = subprocess.run(
        [sys.executable, "-m", "ck.cli.opt", "-"], input=ROW, capture_output=True, text=True, check=True
    )
    assert "ck.silu" in done.stdout


def test_files_that_are_not_there_or_not_ir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert opt.run([str(tmp_path / "none.mlir")]) == 2
    assert "none.mlir: no such file" in capsys.readouterr().err
    assert opt.run(["a" * 300]) == 2
    assert "aaa: no such file" in capsys.readouterr().err
    wrong = tmp_path / "wrong.txt"
    deep = b"builtin.module {\n" * 9999
    for text, said in ((b"builtin.module {} // \xff", "byte 21 is not"), (deep, "nested deeper than")):
        wrong.write_bytes(text)
        assert opt.run([str(wrong)]) == 3
        assert said in capsys.readouterr().err
    wrong.write_text("func.func @f( {")
    assert opt.run([str(wrong)]) == 3
    assert "wrong.txt:1:" in capsys.readouterr().err


def test_the_command_starts_in_time(row: str, measured) -> None:
    """It needs xdsl and numpy, nothing of torch or of the runtime."""
    command = [sys.executable, "-c", "from ck.cli.opt import main; main()", row, "-p", "ck-fuse-rows"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall_s = time.perf_counter() - started
    assert "ck.fused" in done.stdout
    measured(f"ck-opt on a file of 5 ops: {wall_s:.2f} s")
    heavy = "import sys, ck.cli.opt; print({'torch', 'transformers', 'tokenizers'} & sys.modules.keys())"
    listed = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert listed.stdout == "set()\n"
