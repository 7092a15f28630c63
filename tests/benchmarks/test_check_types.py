"""The check of every storage type, and what makes its files, with a stand-in for llama-quantize."""

import shlex
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ck.errors import MachineError, UsageError
from ck.frontend.gguf import GgufFile
from tests.frontend.make_gguf import write_tiny

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, training_cache: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(PEERS))
    monkeypatch.setenv("CK_CACHE_DIR", str(training_cache))
    return import_module("check_types")


def test_every_number_of_a_file_is_compared(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    found = script.compare("Q8_0", path, 1)
    assert (found.stored, found.n_other) == ({"F32": 16}, 0)
    assert found.n_values == 2 * 272 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 64 + 2 * 64) + 64
    assert found.text
    assert found.passed
    reads = script.read_tensor
    monkeypatch.setattr(script, "read_tensor", lambda file, name: -reads(file, name))
    n_values, n_other = script.values(GgufFile(path), path)[1:]
    assert n_other == n_values == found.n_values


def test_what_passes(script: ModuleType) -> None:
    found = script.Found("Q8_0", {"Q8_0": 1, "F32": 2}, 10, 0, "text")
    assert found.passed
    assert script.line(found) == "| Q8_0 | 2 F32, 1 Q8_0 | pass | 0 of 10 | 'text' |"
    assert not replace(found, n_other=1).passed
    assert not replace(found, n_values=0).passed


def test_what_passes_of_whole_blocks(script: ModuleType) -> None:
    found = script.Whole("Q4_K", 9, (2.0, 2.0), (1e-7, 1e-3), (9, 8))
    assert found.passed
    row = "| Q4_K | pass | 2.000e+00 | 2.000e+00 | 1.000e-07 | 1.000e-03 | 9 | 8 | 9 |"
    assert script.whole_line(found) == row
    facts = {"peer": "llama.cpp", "cpu": "a CPU", "isa": "avx2"}
    assert script.table(facts, [], [found]).splitlines()[-1] == row
    assert not replace(found, kld=(2.2, 2.0)).passed
    assert not replace(found, file_kld=(1.06e-3, 1e-3)).passed
    assert not replace(found, same_top=(7, 8)).passed


def test_a_file_of_whole_blocks_is_measured_beside_the_peer(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((2, 3, 5)).astype(np.float32)
    near, far = stored + np.float32(1e-4), stored[..., ::-1]
    ours = {"f32": stored, None: near}
    monkeypatch.setattr(script.check_quantised, "ours", lambda *words, dtype=None, **options: ours[dtype])
    monkeypatch.setattr(script.check_quantised, "theirs", lambda *words: far)
    found = script.beside("Q4_K", Path("some"), stored, np.zeros((2, 3), np.int32), 1)
    assert (found.n_rows, found.same_top[0]) == (6, 6)
    assert found.kld == found.file_kld
    assert found.kld[0] < 1e-6 < found.kld[1]
    assert found.passed


def test_a_failing_peer_is_one_line(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "peer"
    code = "raise SystemExit('no such type')"
    path.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)}\n")
    path.chmod(0o755)
    monkeypatch.setattr(script.llama_cpp, "program", lambda name: path)
    with pytest.raises(
        MachineError, match=r"some: llama-quantize must make Q4_0 of it, it says: no such type$"
    ):
        script.llama_cpp.quantize(Path("some"), Path("out"), "Q4_0", 1)
    with pytest.raises(UsageError, match=r"--types: all, or names of Q4_0, .*, are required, found q4_0"):
        script.llama_cpp.chosen_types("Q5_0,q4_0")
