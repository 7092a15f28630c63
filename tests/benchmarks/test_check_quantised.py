"""The check of quantised models against llama.cpp, with a stand-in for llama.cpp that answers from ck."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import GateError
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.architectures.templates import TEMPLATES
from ck.frontend.model import open_model
from ck.train.export.gguf_file import export_gguf
from ck.train.export.source import source_of_gguf

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
ONE = max(ARCHITECTURES)


class Peer:
    """What llama.cpp would answer: ck's f32 numbers of the file, with noise; one greedy id may be another."""

    def __init__(self, noise: float, other_step: int | None = None) -> None:
        self.noise, self.other_step = noise, other_step

    def ask(self, path: Path, verb: str, *words: str | Path, stdin: bytes) -> list[list[str]]:
        if verb == "quantize":
            source, (out, number) = source_of_gguf(path), words
            storage = {"7": "q8_0", "15": "q5_0"}[str(number)]
            export_gguf(Path(out), source.hp, source.weights, source.vocabulary, storage)
            return []
        ids = np.array(list(map(int, stdin.split())), np.int32)
        model = ck.compile(path, dtype="f32", kv="f32", threads=1)
        if verb == "logits":
            rows = model(ids)
            noise = np.random.default_rng(len(ids)).standard_normal(rows.shape)
            return [[repr(float(value)) for value in row] for row in rows + self.noise * noise]
        model.exe.reset()
        logits, lines = model.exe.prefill(ids), list[list[str]]()
        for step in range(int(words[0])):
            second, best = np.argsort(logits)[-2:]
            lines.append([str(best), repr(float(logits[best])), repr(float(logits[second]))])
            if step == self.other_step:
                lines[-1][0] = str(second)
            logits = model.exe.decode(int(lines[-1][0]))
        return lines


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, training_cache: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(PEERS))
    monkeypatch.setenv("CK_CACHE_DIR", str(training_cache))
    return import_module("check_quantised")


@pytest.fixture
def check(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """`check(peer)`: exit code and the JSON of the script on a small model."""
    small = {"layers": 1, "hidden_dim": 256, "vocab_size": 300}
    monkeypatch.setattr(script, "SIZES", script.SIZES | small)
    for name, value in {"PROMPTS": 2, "STEPS": 6, "WINDOWS": 2, "LENGTH": 24}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script.llama_cpp, "describe", lambda: "a stand-in")
    monkeypatch.setattr("sys.argv", ["x", "--families", ONE, "--threads", "1", "--out", str(tmp_path)])

    def run(ask: Callable[..., Any]) -> tuple[int, list[dict[str, Any]]]:
        monkeypatch.setattr(script, "ask", ask)
        code = script.main()
        return code, json.loads((tmp_path / "quantised.json").read_text())["rows"]

    return run


def test_as_near_as_llama_cpp(check: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = check(Peer(noise=3e-2).ask)
    assert code == 0
    assert [(row["storage"], row["passed"]) for row in rows] == [
        ("f16", True), ("Q8_0", True), ("Q4_K_M", True),
    ]  # fmt: skip
    assert all(0 < row["equal"] == row["compared"] <= 12 for row in rows)
    # Of q5_0 the weights have cost something; the file's own numbers have paid it.
    assert rows[2]["kld"][0] > 10 * rows[2]["file_kld"][0]
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("a stand-in; ")
    assert out.count("| pass |") == 3


def test_further_than_llama_cpp(check: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = check(Peer(noise=1e-6).ask)
    assert code == 5
    assert [row["passed"] for row in rows] == [False] * 3
    message = (
        f"check_quantised.py: every file must answer as llama.cpp does, found others: {ONE} f16, {ONE} Q8_0"
    )
    assert message in capsys.readouterr().err


def test_another_id(check: Callable[..., Any]) -> None:
    code, rows = check(Peer(noise=3e-2, other_step=3).ask)
    assert code == 5
    assert any(row["equal"] < row["compared"] for row in rows)


def test_a_family_that_llama_cpp_does_not_know(
    check: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    peer = Peer(noise=3e-2)

    def ask(path: Path, verb: str, *words: str | Path, stdin: bytes) -> list[list[str]]:
        if verb == "logits":
            raise GateError(f"{path}: llama.cpp must read it, unknown model architecture: 'x'")
        return peer.ask(path, verb, *words, stdin=stdin)

    code, rows = check(ask)
    assert (code, {row["passed"] for row in rows}) == (0, {None})
    assert "| null |  | unknown model architecture of this llama.cpp |" in capsys.readouterr().out


def test_the_models_fill_blocks_of_k_types(script: ModuleType, tmp_path: Path) -> None:
    for name in ARCHITECTURES:
        shapes = script.model_of(name).shapes.values()
        assert all(shape[-1] % 256 == 0 for shape in shapes if len(shape) > 1 and shape[-1] > 16), name
    windows = {name: script.model_of(name).hp.sliding_window for name in TEMPLATES}
    hidden = {name for name, window in windows.items() if 0 < window < script.LENGTH}
    # Where llama.cpp reads a window one shows.
    assert hidden
    assert hidden <= {*ARCHITECTURES}
    _, path = next(script.files_of(ONE, tmp_path))
    assert open_model(path).hp == script.model_of(ONE).hp
