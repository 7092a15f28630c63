"""The package, built and installed, runs and trains on a machine without a C compiler: an empty PATH."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import ck
from tests.models import MODELS, model_path
from tests.train.small_runs import corpus, options, words

ROOT = Path(__file__).parents[1]
PACKAGE = ("ck", "runtime_c", "pyproject.toml", "README.md", "LICENSE")
# Of the library, so that it is linked again and only compiled where a source has changed.
OBJECTS = Path("build") / "runtime_c"
PROMPT = "The capital of France is"
# The command `ck`, in a process that tells which programs it started.
WATCHED = """
import atexit, os, sys, ck
assert ck.__file__.startswith(os.environ["PYTHONPATH"]), ck.__file__
started = []
sys.addaudithook(lambda event, given: started.append(str(given[0])) if event == "subprocess.Popen" else None)
atexit.register(lambda: print("started:", *sorted({*started}), file=sys.stderr))
from ck.cli.main import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory with the package installed from its wheel, without dependencies; made once a session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "install"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _install(folder)
            (folder / "done").touch()
    return folder / "site"


def _install(folder: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "_lib")
    for name in PACKAGE:
        source, copy = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=ignored)
        else:
            shutil.copy(source, copy)
    if (ROOT / OBJECTS).is_dir():
        shutil.copytree(ROOT / OBJECTS, folder / "source" / OBJECTS)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    built = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source"]
    subprocess.run(built, check=True, timeout=600)
    (wheel,) = folder.glob("*.whl")
    assert "ck/_lib/libck_rt.so" in zipfile.ZipFile(wheel).namelist()
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True, timeout=100
    )


@pytest.fixture
def bare(installed: Path, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs the installed `ck` with an empty PATH, in an empty directory, with an empty cache."""
    kept = {k: v for k, v in os.environ.items() if k not in ("CC", "CK_THREADS", "CK_ISA_MASK")}
    env = {**kept, "PATH": "", "PYTHONPATH": str(installed), "CK_CACHE_DIR": str(tmp_path / "cache")}

    def call(*given: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", WATCHED, *map(str, given)]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        *_, started = done.stderr.splitlines()
        # A chat template is rendered by Python, in a process of its own.
        assert started in ("started:", f"started: {sys.executable}")
        return done

    return call


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_without_a_compiler(
    name: str, bare: Callable[..., "subprocess.CompletedProcess[str]"], installed: Path
) -> None:
    path = model_path(name)
    done = bare("run", path, "--prompt", PROMPT, "--temp", 0, "-n", 16, "-c", 256, "--json")
    answer = json.loads(done.stdout)["answer"]
    assert answer == ck.compile(path, context_len=256, backend="c").generate(PROMPT, 16, temp=0)
    lines = [line for line in done.stderr.splitlines() if "backend" in line]
    assert lines == [
        "ck: taking backend llvm, which gives the same results: "
        "C compiler cc is not on PATH: apt-get install gcc, or set CC"
    ]
    facts = json.loads(bare("compile", path, "-c", 256, "--json").stdout)
    assert facts["backend"] == "llvm"
    assert bare("doctor").stdout.count("✓ backend: llvm is taken\n") == 1


@pytest.mark.timeout(900)
def test_a_model_is_trained_without_a_compiler(
    bare: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path, training: Path
) -> None:
    (tmp_path / "c.txt").write_text(corpus())
    bare("train", "--run", "./bare", *words(steps=50))
    run = ck.train(run="./c", steps=50, backend="c", **options()).path
    for file in ("weights.safetensors", "optimizer.safetensors"):
        ours, theirs = (load_file(at / "checkpoints" / "step-50" / file) for at in (tmp_path / "bare", run))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[each].view(np.uint32), theirs[each].view(np.uint32)) for each in ours)
    bare("promote", "./bare")
    assert bare("run", "./bare", "--prompt", "the rows", "--temp", 0, "-n", 8).stdout
