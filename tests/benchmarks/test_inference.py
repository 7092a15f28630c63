"""The benchmark's arithmetic and its errors, with stand-ins for both programs."""

import json
import shlex
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ck.errors import GateError, MachineError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Answers like `ck bench --json` and like `ck run`; its rates are twice the peer's.
PROGRAM = """
import json, sys
rows = [{"n_prompt": 512, "n_gen": 0, "avg_ts": RATE}, {"n_prompt": 0, "n_gen": 128, "avg_ts": RATE / 10}]
print(json.dumps(rows) if "512" in sys.argv else "Paris")
"""


@pytest.fixture
def inference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The benchmark with 100 tokens/s for ck and 50 for llama.cpp."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    module = import_module("inference")
    ours = tmp_path / "ours.py"
    ours.write_text(PROGRAM.replace("RATE", "100"))
    monkeypatch.setattr(module, "CK", (sys.executable, str(ours)))
    folder = module.llama_cpp.folder()
    (folder / "build" / "bin").mkdir(parents=True)
    (folder / "build.json").write_text(json.dumps({"compiler": "cc 1", "amx": "without AMX"}))
    for name in module.llama_cpp.PROGRAMS:
        theirs = folder / "build" / "bin" / name
        script = theirs.with_suffix(".py")
        script.write_text(PROGRAM.replace("RATE", "50"))
        # Not the interpreter's path after #!: it may hold a space.
        theirs.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(script))} "$@"\n')
        theirs.chmod(0o755)
    return module


def result(inference: ModuleType) -> dict[str, Any]:
    sides = partial(inference.ck, activations="q8"), inference.llama
    rows = inference.measure(Path("some.gguf"), 2, 1, 1, sides)
    return {
        "situation": inference.situation(), "peer": inference.llama_cpp.describe(), "pairs": 2, "threads": 1,
        "activations": "q8", "models": {"some": rows},
    }  # fmt: skip


def test_a_ratio_above_one_says_that_ck_is_faster(inference: ModuleType) -> None:
    rows = {row["figure"]: row for row in result(inference)["models"]["some"]}
    assert rows["prompt 512"]["ratio"] == {"least": 2.0, "median": 2.0, "greatest": 2.0}
    assert rows["decode 128"]["ck_values"] == [10.0, 10.0]
    assert rows["first token"]["ck"]["median"] > 0
    slow = inference.row("first token", [{"first token": 2.0}], [{"first token": 1.0}])
    assert slow["ratio"]["median"] == 0.5


def test_the_table_and_the_floors(inference: ModuleType) -> None:
    found = result(inference)
    assert "| some | prompt 512, tokens/s | 100.0 | 50.0 | 2.00 (2.00 to 2.00) |" in inference.table(found)
    inference.check(found)
    found["models"]["some"][0]["ratio"]["median"] = 0.4
    with pytest.raises(GateError, match=r"some: prompt 512 must be 0\.5 of llama\.cpp's, is 0\.40"):
        inference.check(found)


def test_a_missing_peer_names_the_command_that_builds_it(
    inference: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(MachineError, match=r"not built; run: python benchmarks/peers/llama_cpp\.py"):
        inference.llama(Path("some.gguf"), 1, 1)


def test_a_failing_program_is_one_line(inference: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "CK", (sys.executable, "-c", "raise SystemExit('no such model')"))
    with pytest.raises(MachineError, match="exit code 1, no such model"):
        inference.ck(Path("some.gguf"), 1, 1, activations="q16")


def test_every_type_is_a_file_of_its_own(
    inference: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[tuple[str, str]] = []

    def quantize(source: Path, out: Path, kind: str, threads: int) -> None:
        made.append((source.name, kind))
        out.write_bytes(source.read_bytes())

    (tmp_path / "smol.gguf").write_bytes(b"GGUF")
    small = {**inference.WIDE, "num_hidden_layers": 1, "hidden_size": 256, "vocab_size": 600}
    monkeypatch.setattr(inference, "WIDE", small)
    monkeypatch.setattr(inference, "resolve_model", lambda name: tmp_path / "smol.gguf")
    monkeypatch.setattr(inference.llama_cpp, "quantize", quantize)
    files = [(file.name, file.exists()) for file in inference.files_of(["Q4_0", "Q2_K"], 1)]
    assert files == [("SmolLM2-135M Q4_0", True), ("SmolLM2-135M Q2_K", True), ("Random-138M Q2_K", True)]
    assert made == [("smol.gguf", "Q4_0"), ("smol.gguf", "Q2_K"), ("f32.gguf", "Q2_K")]


def test_of_types_rates_alone_are_measured(inference: ModuleType) -> None:
    sides = partial(inference.ck_rates, activations="q16"), inference.llama_rates
    rows = inference.measure(Path("some.gguf"), 1, 1, 1, sides)
    assert [row["figure"] for row in rows] == ["prompt 512", "decode 128", "peak memory"]
