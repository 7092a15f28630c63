"""The check of every storage type against llama.cpp, with stand-ins for llama.cpp's programs."""

import shlex
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ck.errors import MachineError, UsageError
from tests.frontend.make_gguf import write_tiny

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
SAYS = "Mean PPL(Q)     : 271.500000 ± 3.1\nMean    KLD:   0.012500 ± 0.001\n"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, training_cache: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(PEERS))
    monkeypatch.setenv("CK_CACHE_DIR", str(training_cache))
    module = import_module("check_types")
    monkeypatch.setattr(module, "LENGTH", 64)
    monkeypatch.setattr(module, "WINDOWS", 2)
    return module


def stand_in(script: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Have every program of llama.cpp run `code`."""
    path = folder / "peer"
    path.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)}\n")
    path.chmod(0o755)
    monkeypatch.setattr(script.llama_cpp, "program", lambda name: path)


def test_a_file_is_compared_with_its_numbers_in_f32(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(script, monkeypatch, tmp_path, f"print({SAYS!r})")
    found = script.compare("Q8_0", write_tiny(tmp_path / "tiny.gguf"), 1)
    assert (found.stored, found.n_other) == ({"F32": 16}, 0)
    assert found.n_values == 2 * 272 * 64 + 2 * (4 * 64 * 64 + 2 * 64 * 32 + 2 * 64 + 64 * 64) + 64
    assert found.kld[0] < 1e-6
    assert found.kld[1] == 0.0125
    exact, ours, theirs = found.ppl
    assert abs(ours - exact) < 1e-3 * exact
    assert theirs == 271.5
    assert found.passed


def test_what_passes(script: ModuleType) -> None:
    found = script.Found("Q8_0", {"Q8_0": 1}, 10, 0, (1e-3, 1e-3), (20.0, 20.01, 20.02), "text")
    assert found.passed
    assert "| Q8_0 | 1 Q8_0 | pass | 0 of 10 | 1.00e-03 | 1.00e-03 | 1 | 20.0000 |" in script.line(found)
    assert not replace(found, n_other=1).passed
    assert not replace(found, kld=(1.06e-3, 1e-3)).passed
    # Farther from the exact figure than llama.cpp's: then within a thousandth of it.
    assert replace(found, ppl=(20.0, 20.03, 20.02)).passed
    assert not replace(found, ppl=(20.0, 20.05, 20.02)).passed


def test_a_failing_peer_is_one_line(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(script, monkeypatch, tmp_path, "raise SystemExit('no such type')")
    with pytest.raises(MachineError, match=r"some: llama-perplexity must read it, it says: no such type$"):
        script.theirs(Path("some"), Path("base"), 1)
    with pytest.raises(
        MachineError, match=r"some: llama-quantize must make Q4_0 of it, it says: no such type$"
    ):
        script.llama_cpp.quantize(Path("some"), Path("out"), "Q4_0", 1)
    with pytest.raises(UsageError, match=r"--types: all, or names of Q4_0, .*, are required, found q4_0"):
        script.llama_cpp.chosen_types("Q5_0,q4_0")
