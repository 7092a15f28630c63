"""The comparison of the backends: its arithmetic, its gate, and that its processes measure what they say."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ck.errors import GateError
from tests.frontend.make_gguf import write_tiny

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZES = {
    "layers": 1, "embed_dim": 32, "hidden_dim": 64, "num_heads": 2, "num_kv_heads": 1, "vocab_size": 300,
    "seq": 16, "batch": 1,
}  # fmt: skip


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "cache"))
    return import_module("backends")


def test_above_one_llvm_is_better(backends: ModuleType) -> None:
    rates = backends.row("m", "prompt 512", "tokens/s", [100.0, 50.0, 10.0], [90.0, 50.0, 20.0])
    assert rates["ratio"] == {"least": 0.9, "median": 1.0, "greatest": 2.0}
    seconds = backends.row("m", "cold compile", "s", [2.0], [1.0])
    assert seconds["ratio"]["median"] == 2.0
    backends.check([rates, seconds])


def test_the_gate_names_what_is_missed(backends: ModuleType) -> None:
    rows = [
        backends.row("a", "decode 64", "tokens/s", [100.0], [94.0]),
        backends.row("b", "cold compile", "s", [1.0], [1.25]),
        backends.row("c", "cached", "s", [0.1], [0.3]),
        # Of loading the object alone nothing is required.
        backends.row("d", "object", "s", [0.001], [0.1]),
    ]
    with pytest.raises(GateError) as caught:
        backends.check(rows)
    assert str(caught.value) == (
        "LLVM: a decode 64 0.940 of C's, 0.95 is required; b cold compile in 1.250 of C's time, at most 1 is "
        "required; c cached in 0.300 s, less than 0.3 is required"
    )


def test_pairs_alternate(backends: ModuleType) -> None:
    asked: list[str] = []
    row = backends.alternate("m", "cached", 2, lambda name: asked.append(name) or float(len(asked)))
    assert asked == ["llvm", "c", "c", "llvm", "llvm", "c"]
    # The first pair is not counted.
    assert row["c"] == {"least": 3.0, "median": 4.5, "greatest": 6.0}


def test_its_processes_measure(backends: ModuleType, tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "tiny.gguf")
    step = backends.worker("step", json.dumps(SIZES), 1, 2)["step"]
    assert {name: len(rates) for name, rates in step.items()} == {"c": 2, "llvm": 2}
    assert min(step["c"] + step["llvm"]) > 0
    ready = backends.worker("ready", model, "llvm")
    assert 0 < ready["pack_s"] < ready["ready_s"]
    facts = backends.run([*backends.CK, "compile", model, "--backend", "llvm", "--json"])
    program = json.loads(facts.out)["program"]
    assert 0 < backends.worker("object", program, "llvm")["object_s"] < 60
    assert backends.timed([sys.executable, "-c", "import os; print(os.environ['CK_CACHE_DIR'])"]) > 0
