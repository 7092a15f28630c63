"""`ck-opt --reduce`: a file shrinks while a command fails on it, and what stands in the way is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from xdsl.parser import Parser

from ck.cli import opt
from ck.ir.dialects import context
from ck.ir.reduce.way import Size
from tests.graphs.fixed import random_graph

GATE = """// a gate
func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %a = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  %b = ck.scale %a {factor = 2.0 : f32} : tensor<2x32xf32> -> tensor<2x32xf32>
  %y = ck.mul %b, %a : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
"""


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("gate.mlir").write_text(GATE)
    return "gate.mlir"


@pytest.fixture
def script(gate: str) -> str:
    """A command that exits with 3 on a file with a silu whose result is multiplied, with 7 on one without."""
    Path("test.py").write_text(
        "import re, sys\n"
        "text = open(sys.argv[1]).read()\n"
        "found = re.search(r'(%\\S+) = ck.silu', text)\n"
        "if not text.startswith('// a gate'):\n    sys.exit(9)\n"
        "sys.exit(7 if not found else 3 if re.search(rf'ck.mul .*{found[1]}\\b', text) else 0)\n"
    )
    return f"{sys.executable} test.py"


@pytest.mark.parametrize("place", ["", " %s", " {}"])
def test_a_file_shrinks_while_a_command_fails(
    script: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert opt.run(["--reduce", "gate.mlir", "--test", script + place]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("// a gate\nbuiltin.module {\n")
    assert [line.split()[2] for line in out.splitlines() if " = ck." in line] == ["ck.silu", "ck.mul"]
    assert err.splitlines()[-1].startswith("// reduce: 3 -> 2 ops, ")
    assert Path("gate.mlir").read_text() == GATE


def test_a_comment_ends_with_its_line(script: str) -> None:
    Path("gate.mlir").write_text(GATE.replace("a gate\n", "a gate\u2028of two parts\x0b\n"))
    assert opt.run(["--reduce", "gate.mlir", "--test", script, "-o", "small.mlir"]) == 0
    assert opt.run(["small.mlir"]) == 0
    assert "ck.silu" in Path("small.mlir").read_text()


def test_the_result_goes_to_a_file(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert opt.run(["--reduce", "gate.mlir", "--test", script, "-o", "small.mlir"]) == 0
    assert capsys.readouterr().out == ""
    assert "ck.scale" not in Path("small.mlir").read_text()
    assert not list(Path().glob(".small*"))


def test_a_pipe_gets_the_result_and_stays(script: str) -> None:
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        assert opt.run(["--reduce", "gate.mlir", "--test", script, "-o", "pipe"]) == 0
        assert Path("pipe").is_fifo()
        assert reader.stdout is not None
        assert reader.stdout.read().count("builtin.module") == 1


def test_what_has_no_time_stays_as_it_is(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert opt.run(["--reduce", "gate.mlir", "--test", script, "--time-limit", "0"]) == 0
    assert "ck.scale" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "test", "code", "message"),
    [
        ("gate.mlir", "./nowhere", 2, "--test: ./nowhere: a program is required, no such file or directory"),
        ("gate.mlir", "./gate.mlir", 2, "--test: ./gate.mlir: a program is required, permission denied"),
        (
            "gate.mlir",
            "true",
            2,
            "--test: a command that fails on gate.mlir is required, this one exits with 0",
        ),
        ("gate.mlir", "a 'b", 2, '--test: a command line is required, got "a \'b": no closing quotation'),
        ("gate.mlir", " ", 2, "--test: a command line is required, got an empty one"),
        ("none.mlir", "false", 2, "none.mlir: no such file"),
        ("text.mlir", "false", 3, "text.mlir:1:"),
        ("bytes.mlir", "false", 3, "bytes.mlir: IR is UTF-8 text, byte 0 is not"),
    ],
)
def test_what_cannot_be_reduced(
    gate: str, file: str, test: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.mlir").write_text("no IR at all")
    Path("bytes.mlir").write_bytes(b"\xff\xfe")
    assert opt.run(["--reduce", file, "--test", test]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--reduce", "gate.mlir"], ["gate.mlir", "--test", "true"]])
def test_a_file_and_a_command_go_together(
    gate: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert opt.run(arguments) == 2
    assert "--reduce: takes a file and --test a command, both or none of them" in capsys.readouterr().err


def is_running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_command_that_does_not_end_is_ended(gate: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what it started."""
    command = "sh -c 'sleep 60 & echo $! > child; sleep 60'"
    started = time.monotonic()
    assert opt.run(["--reduce", gate, "--test", command, "--test-timeout", "0.5"]) == 2
    assert "--test: a command that ends within 0.5 s is required" in capsys.readouterr().err
    assert time.monotonic() - started < 20
    child = int(Path("child").read_text())
    while is_running(child):
        assert time.monotonic() - started < 20


@pytest.mark.parametrize("out", ["nowhere/out.mlir", "gate.mlir/out.mlir", "folder"])
def test_a_result_that_cannot_be_written_is_told_at_once(
    gate: str, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder").mkdir()
    assert opt.run(["--reduce", gate, "--test", "false", "-o", out]) == 2
    err = capsys.readouterr().err
    assert f"ck-opt: {out}: must be a file that can be written, " in err
    assert "// reduce" not in err


def test_an_interruption_leaves_the_best_so_far(script: str) -> None:
    Path("graph.mlir").write_text(str(random_graph(1).module))
    Path("slow.py").write_text("import sys, time; time.sleep(0.05); sys.exit(1)")
    command = [sys.executable, "-m", "ck.cli.opt", "--reduce", "graph.mlir", "-o", "best.mlir"]
    env = {**os.environ, "PYTHONPATH": str(Path(opt.__file__).parents[2])}
    process = subprocess.Popen(
        [*command, "--test", f"{sys.executable} slow.py"], stderr=subprocess.PIPE, text=True, env=env
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("// reduce functions: ")
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert rest.splitlines()[-1].endswith("s, interrupted")
    best = Parser(context(), Path("best.mlir").read_text()).parse_module()
    assert Size.of(best) < Size.of(random_graph(1).module)
