"""Which backend makes a program: the one named, else C where a C compiler works, else LLVM with a word."""

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.backend.c.build import compiler_identity
from ck.backend.llvm.build import binding
from ck.errors import CkWarning, MachineError, UsageError
from ck.runtime import building, store
from ck.runtime.model import Model
from tests.train.small_runs import template

IDS = np.arange(3, 20)


@pytest.fixture
def compile_model(
    cut: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Model]:
    """Compiles a cut of a model, whose programs are in a cache of their own."""
    path = cut("smollm2-135m", 1, 4096)
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)

    def call(**options: Any) -> Model:
        return ck.compile(path, context_len=64, chunk=16, **options)

    return call


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """`compiler(script)`: CC is a program that runs the shell script; the file returned counts its starts."""

    def install(script: str) -> Path:
        starts, program = tmp_path / "starts", tmp_path / "my-cc"
        program.write_text(f"#!/bin/sh\necho started >> {starts}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("CC", str(program))
        return starts

    return install


def quietly(made: Callable[[], Model]) -> Model:
    """What is made without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", CkWarning)
        return made()


def test_c_is_taken_where_a_compiler_works(compile_model: Callable[..., Model]) -> None:
    model = quietly(compile_model)
    assert model.info["backend"] == "c"
    assert model.info["toolchain"] == compiler_identity()
    assert '#include "ck_rt.h"' in model.source()


@pytest.mark.parametrize("given", ["no-such-cc", "/no/such/cc -O1", '"gcc'])
def test_llvm_is_taken_where_none_is(
    given: str, compile_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    want = compile_model()(IDS)
    monkeypatch.setenv("CC", given)
    with pytest.warns(CkWarning, match="^taking backend llvm, which gives the same results: CC: ") as caught:
        model = compile_model()
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert model.info["backend"] == "llvm"
    assert np.array_equal(model(IDS), want)


def test_an_empty_path_has_no_compiler(
    compile_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.warns(CkWarning, match=r"results: C compiler cc is not on PATH: apt-get install gcc"):
        assert compile_model().info["backend"] == "llvm"


# What a compiler may do in place of its work, and what is said of it.
BROKEN = {
    "exit 1": "failed, exit code 1: it says nothing",
    "echo 'a.c:1:10: fatal error: stdint.h: none' >&2; exit 1": "code 1: a.c:1:10: fatal error: stdint.h",
    "exit 0": "made no program",
    "while [ $# -gt 1 ]; do [ $1 = -o ] && echo text > $2; shift; done": "made a program that does not load",
    "while [ $# -gt 1 ]; do [ $1 = -o ] && echo 'int x;' | cc -shared -o $2 -x c -; shift; done": (
        "made another program than asked: it has no ck_context_hash"
    ),
    r"printf 'error: \033]0;a\a\033[31mred\n' >&2; exit 1": "failed, exit code 1: error: ?]0;a??[31mred",
    "sleep 1000 & wait": "does not end within 5 s",
}


@pytest.mark.parametrize("script", BROKEN)
def test_a_compiler_that_fails_is_tried_once(
    script: str,
    compile_model: Callable[..., Model],
    compiler: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts = compiler(script)
    monkeypatch.setattr("ck.backend.c.build.PATIENCE", 5.0)
    with pytest.warns(CkWarning, match="same results: CC: C compiler .*my-cc") as caught:
        first = compile_model()
    assert BROKEN[script] in str(caught[0].message)
    assert first.info["backend"] == "llvm"
    # Found again, with its reason, by a process that asks in the same way; nothing is compiled.
    with pytest.warns(CkWarning, match="ck cache prune forgets that$"):
        again = compile_model(progress=pytest.fail)
    assert again.program.directory == first.program.directory
    assert starts.read_text() == "started\n"
    # Who asks for LLVM gets the same program, and no word about it.
    assert quietly(lambda: compile_model(backend="llvm")).program.directory == first.program.directory
    with pytest.warns(CkWarning):
        compile_model(force=True)
    assert starts.read_text() == "started\n" * 2


def test_a_compiler_that_works_again_is_taken(
    compile_model: Callable[..., Model], compiler: Callable[[str], Path]
) -> None:
    compiler("exit 1")
    with pytest.warns(CkWarning):
        compile_model()
    compiler(f'exec {shutil.which("cc")} "$@"')
    assert quietly(compile_model).info["backend"] == "c"


def test_c_by_name_is_c_or_an_error(
    compile_model: Callable[..., Model], compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler("exit 1")
    with pytest.warns(CkWarning):
        compile_model()
    # The program that LLVM made in C's place is not C's.
    with pytest.raises(MachineError, match=r"failed, exit code 1: .*; or pass --backend llvm") as caught:
        compile_model(backend="c")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(MachineError, match=r"^CC: C compiler no-such-cc is not on PATH: .* --backend llvm"):
        compile_model(backend="c", progress=pytest.fail)
    with pytest.raises(MachineError, match="--backend llvm"):
        ck.compile(template(), mode="train", batch=2, seq=32, backend="c")


def test_no_backend_at_all_names_both(
    compile_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-cc")
    for forbidden in (lambda name: None, import_refused):
        binding.cache_clear()
        monkeypatch.setattr("ck.backend.llvm.build.find_spec", forbidden)
        missing = "LLVM: package llvmlite is required, found none; run"
        with pytest.raises(MachineError, match=f"^CC: C compiler no-such-cc is not on PATH: .*; {missing}"):
            compile_model()
        with pytest.raises(MachineError, match=f"^{missing}"):
            compile_model(backend="llvm")


def import_refused(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}")


def test_llvm_that_does_not_load_is_not_said_to_be_taken(
    compile_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    binding.cache_clear()
    monkeypatch.setenv("CC", "no-such-cc")
    monkeypatch.setattr("ck.backend.llvm.build.import_module", import_refused)
    with pytest.raises(
        MachineError, match=r"^CC: C compiler no-such-cc .*; llvmlite: does not load: No module"
    ):
        quietly(compile_model)


@pytest.mark.parametrize("given", ["gpu", "", 1, ["c"], {}])
def test_another_backend_is_refused(given: Any, compile_model: Callable[..., Model]) -> None:
    refused = f"^backend: one of c, llvm is required, found {re.escape(str(given))}$"
    # Before a check has run for a minute.
    with pytest.raises(UsageError, match=refused):
        compile_model(backend=given, check=True, progress=pytest.fail)
    with pytest.raises(UsageError, match=refused):
        ck.compile(template(), mode="train", seq=32, backend=given, check=True, progress=pytest.fail)
    with pytest.raises(UsageError, match=r"^backend: one of"):
        compile_model().source(["c"])


@pytest.mark.parametrize("name", ["build/program.c", "ir/00-graph.mlir", "ir/04-scheduled.mlir"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_text_that_is_gone_is_made_again(
    name: str, empty: bool, compile_model: Callable[..., Model]
) -> None:
    model = compile_model()
    text = model.program.directory / name
    was = text.read_text()
    text.write_text("") if empty else text.unlink()
    compile_model()
    assert text.read_text() == was


def test_both_live_side_by_side(compile_model: Callable[..., Model]) -> None:
    made = {name: compile_model(backend=name) for name in ("c", "llvm")}
    for name, model in made.items():
        assert model.info["backend"] == name
        again = compile_model(backend=name, progress=pytest.fail)
        assert again.program.directory == model.program.directory
    c, llvm = made["c"], made["llvm"]
    assert c.program.compiled.name, llvm.program.compiled.name == ("program.so", "program.o")
    assert c.ir("scheduled") == llvm.ir("scheduled")
    # One's text is made of the other's stored stage, byte for byte.
    assert (c.source("llvm"), llvm.source("c")) == (llvm.source(), c.source())
    assert (c.source("c"), llvm.source("llvm")) == (c.source(), llvm.source())
    assert c.compiled("llvm")[:4] == llvm.compiled("c")[:4] == b"\x7fELF"
    assert llvm.compiled("llvm") == c.compiled("llvm") == llvm.program.compiled.read_bytes()
    assert "ck_decode" in c.assembly()
    assert "ck_decode" in llvm.assembly()


def test_a_program_that_names_no_backend_is_none(compile_model: Callable[..., Model]) -> None:
    """Those of versions that had one backend."""
    directory = compile_model().program.directory
    assert store.load(directory) is not None
    record = json.loads((directory / "run.json").read_text())
    for other in ({k: v for k, v in record.items() if k != "backend"}, record | {"backend": "gpu"}, [record]):
        (directory / "run.json").write_text(json.dumps(other))
        assert store.load(directory) is None
    # It is made again in its place.
    assert compile_model().info["backend"] == "c"
    assert store.load(directory) is not None


@pytest.mark.parametrize("name", ["c", "llvm"])
def test_what_is_loaded_is_checked(name: str, compile_model: Callable[..., Model]) -> None:
    program = compile_model(backend=name).program
    good = program.compiled.read_bytes()
    # Another file: this one is mapped.
    os.unlink(program.compiled)
    program.compiled.write_bytes(good[:-1] + b"x")
    assert store.load(program.directory) is None
    assert compile_model(backend=name).program.compiled.read_bytes() == good


def test_a_source_at_any_depth_makes_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "__file__", str(tmp_path / "ck" / "runtime" / "building.py"))
    source = tmp_path / "ck" / "frontend" / "architectures" / "outward" / "llama.py"
    source.parent.mkdir(parents=True)
    source.write_text("A = 1\n")
    before = building._own_sources()
    source.write_text("A = 1.0\n")
    assert building._own_sources() != before
