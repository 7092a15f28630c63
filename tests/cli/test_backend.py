"""--backend on the command line, and the one line that says which was taken where none works."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ck
from ck.errors import CkWarning
from tests.train.small_runs import corpus, words

ROOT = Path(__file__).parents[2]
LINE = "ck: taking backend llvm, which gives the same results: CC: C compiler no-such-cc is not on PATH: "


@pytest.fixture
def ck_process(
    cut: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs `ck` where the C compiler is missing; model.gguf and c.txt are there, the cache is empty."""
    (tmp_path / "model.gguf").symlink_to(cut("smollm2-135m", 1, 4096))
    (tmp_path / "c.txt").write_text(corpus())
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CK_CACHE_DIR": str(tmp_path / "cache"), "CC": "no-such-cc"}

    def call(*given: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "ck.cli.main", *given]
        return subprocess.run(
            command, cwd=tmp_path, env=env | variables, capture_output=True, text=True, timeout=200
        )

    return call


def test_one_line_says_that_llvm_is_taken(ck_process: Any) -> None:
    first, again = (ck_process("compile", "model.gguf", "--json", "-c", "64") for _ in range(2))
    for done in (first, again):
        assert done.returncode == 0
        assert done.stderr.startswith(LINE)
        assert done.stderr.count("\n") == 1
        assert json.loads(done.stdout)["backend"] == "llvm"
    # Asked for, it is nothing to tell.
    for done in (
        ck_process("compile", "model.gguf", "--json", "-c", "64", "--backend", "llvm"),
        ck_process("compile", "model.gguf", "--json", "-c", "64", CK_COMPILE_BACKEND="llvm"),
    ):
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["directory"] == json.loads(first.stdout)["directory"]


def test_c_that_cannot_be_had_names_the_way_out(ck_process: Any) -> None:
    done = ck_process("bench", "model.gguf", "-p", "4", "-n", "0", "--backend", "c")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == (
        "ck: CC: C compiler no-such-cc is not on PATH: apt-get install gcc, or set CC; "
        "or pass --backend llvm, which needs no C compiler\n"
    )


def test_training_says_it_once(ck_process: Any) -> None:
    done = ck_process("train", "--run", "a", *words(steps=4))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "backend" in line] == [
        f"{LINE}apt-get install gcc, or set CC"
    ]
    resumed = ck_process("resume", "a", "--steps", "6", "--backend", "llvm")
    assert resumed.returncode == 0, resumed.stderr
    assert "backend" not in resumed.stderr
    refused = ck_process("train", "--run", "b", *words(steps=4), "--backend", "cuda")
    assert refused.returncode == 2
    assert "--backend: must be one of auto, c, llvm, found 'cuda'" in refused.stderr
    shown = ck_process("promote", "a"), ck_process("show", "a")
    assert ["backend", "llvm"] in [line.split() for line in shown[1].stdout.splitlines()]


def test_a_warning_is_one_line_once(ck_main: Any, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(*_: Any, **__: Any) -> None:
        for text in ("first", "second", "first"):
            warnings.warn(CkWarning(text), stacklevel=2)
        warnings.warn("another's", UserWarning, stacklevel=2)
        raise KeyboardInterrupt

    monkeypatch.setattr(ck, "compile", compile_)
    with pytest.warns(UserWarning, match="another's") as caught:
        result = ck_main("compile", model)
    assert result.err == "ck: first\nck: second\nck: interrupted\n"
    assert len(caught) == 1
    # The process has its own ways back.
    with pytest.warns(CkWarning):
        warnings.warn(CkWarning("first"), stacklevel=2)
