"""What a pass that crashes leaves outside ck-opt: in the pipeline, in a verb, in Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.transforms.common_subexpression_elimination import CommonSubexpressionElimination

import ck
from ck.cli import opt
from ck.ir.dialects import context
from ck.passes.fuse_rows import FuseRowsPass
from ck.passes.pipeline import ORDER, run_pass, run_stages
from ck.passes.reproducer import PassCrash
from ck.runtime.check import check_road
from tests.cli.test_opt_debugging import Apply, raising
from tests.graphs.fixed import random_graph


@pytest.fixture
def fuse_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[Apply], None]:
    """Call to put something else in the place of what ck-fuse-rows does."""
    return lambda apply: monkeypatch.setattr(FuseRowsPass, "apply", apply)


def test_the_pipeline_hands_over_what_was_there_before_the_crash(
    fuse_rows: Callable[[Apply], None],
) -> None:
    expected = random_graph(2).module
    for kind in ORDER[ORDER.index(CommonSubexpressionElimination) : ORDER.index(FuseRowsPass)]:
        run_pass(context(), expected, kind)
    error = KeyError("x")
    fuse_rows(raising(error))
    with pytest.raises(PassCrash, match="ck-fuse-rows raised KeyError: 'x'") as crash:
        list(run_stages(context(), random_graph(2).module))
    assert crash.value.before == str(expected)
    assert list(crash.value.passes) == ["ck-fuse-rows"]
    assert crash.value.__cause__ is error


def test_a_verb_keeps_the_reproducer_in_the_cache(
    fuse_rows: Callable[[Apply], None],
    cut: Callable[..., Path],
    ck_main: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    model = cut("smollm2-135m", n_layers=1)
    fuse_rows(raising(KeyError("x")))
    done = ck_main("compile", str(model), "-c", "64", "-b", "16")
    (file,) = (tmp_path / "cache" / "reproducers").iterdir()
    assert (done.code, done.out) == (70, "")
    assert done.err.splitlines()[-2:] == [
        "ck: this is a defect in ck: ck-fuse-rows raised KeyError: 'x'",
        f"ck: {file} holds the IR before it; to replay it: ck-opt --reproduce {file}",
    ]
    assert "Traceback" not in done.err
    assert opt.run(["--reproduce", str(file)]) == 70


def test_python_gets_the_way_to_replay_with_the_exception(
    fuse_rows: Callable[[Apply], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    small = ck.template("llama", layers=1, embed_dim=32, hidden_dim=32, num_heads=2, vocab_size=64)
    fuse_rows(raising(KeyError("x")))
    with pytest.raises(PassCrash, match="ck-fuse-rows raised KeyError: 'x'") as crash:
        ck.compile(small, mode="train", batch=1, seq=8)
    (file,) = (tmp_path / "reproducers").iterdir()
    (note,) = crash.value.__notes__
    assert note == f"{file} holds the IR before it; to replay it: ck-opt --reproduce {file}"


def no_text(module: ModuleOp) -> str:
    raise KeyError("x")


def no_llvm(module: ModuleOp) -> str:
    return "no LLVM"


def no_c(module: ModuleOp) -> str:
    return "no C"


def compiled() -> None:
    small = ck.template("llama", layers=1, embed_dim=32, hidden_dim=32, num_heads=2, vocab_size=64)
    ck.compile(small, mode="train", batch=1, seq=8, backend="llvm")


def checked(name: str = "llvm") -> None:
    check_road(random_graph(0).module, {}, lambda line: None, (name,))


@pytest.mark.parametrize(
    ("emit", "road", "why"),
    [
        (no_text, compiled, "KeyError: 'x'"),
        (no_llvm, checked, "InternalError: LLVM does not take the program"),
    ],
    ids=["no text", "text that is no LLVM"],
)
def test_a_backend_that_crashes_leaves_the_program(
    emit: Callable[[ModuleOp], str],
    road: Callable[[], None],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as broken:
        for name in ("ck.backend.llvm.program.emit_program", "ck.cli.targets.llvm_program"):
            broken.setattr(name, emit)
        with pytest.raises(PassCrash, match=f"^backend llvm raised {why}") as crash:
            road()
        (file,) = (tmp_path / "reproducers").iterdir()
        (note,) = crash.value.__notes__
        assert note == f"{file} holds the IR before it; to replay it: ck-opt --reproduce {file}"
        assert opt.run(["--reproduce", str(file)]) == 70
    assert opt.run(["--reproduce", str(file)]) == 0


def test_text_that_a_working_compiler_refuses_is_a_crash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was taken for a compiler that does not work: not compared, exit code 0."""
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as broken:
        broken.setattr("ck.backend.c.program.emit_program", no_c)
        with pytest.raises(PassCrash, match=r"^backend c raised CompilerError: .* failed, exit code 1"):
            checked("c")
        (file,) = (tmp_path / "reproducers").iterdir()
        assert opt.run(["--reproduce", str(file)]) == 70
    assert opt.run(["--reproduce", str(file)]) == 0
