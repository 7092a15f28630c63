"""The comparison of `ck eval` with llama-perplexity, with a stand-in for both programs."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.evaluate.recorded import DATA

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(PEERS))
    return import_module("check_eval")


@pytest.fixture
def check(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """`check(base, ck, kld, eight)`: exit code and the one row, of such PPLs and KLD, eight that of rows of
    8 bits; the peer's are recorded."""
    model, text = tmp_path / "m.gguf", tmp_path / "text"
    model.write_bytes(b"")
    text.write_bytes(b"")
    words = ["x", "--model", str(model), "--text", str(text), "--types", "F32", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(script.llama_cpp, "program", Path)
    monkeypatch.setattr(script.llama_cpp, "describe", lambda: "a stand-in")

    def run(base: float, ck: float, kld: float, eight: float = 0.07) -> tuple[int, dict[str, Any]]:
        def answer(*words: str | Path) -> str:
            if words[0] == Path("llama-quantize"):
                Path(words[3]).write_bytes(b"")
                return ""
            if "--kl-divergence" in words:
                return (DATA / "compared.txt").read_text()
            if words[0] == Path("llama-perplexity"):
                Path(words[words.index("--kl-divergence-base") + 1]).write_bytes(b"")
                return f"[1]12.3,\n0.00 I Final estimate: PPL = {base} +/- 1.0\n"
            far = eight if "q8" in words else kld
            return json.dumps({"ppl": {"value": ck}, "kld_mean": {"value": far}}) + "\nchunk\n"

        monkeypatch.setattr(script, "run", answer)
        code = script.main()
        return code, json.loads((tmp_path / "eval.json").read_text())["rows"][0]

    return run


def test_the_peer_s_figures_are_read_and_held_to(
    check: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, row = check(426.0, 426.1, 0.0797)
    assert (code, row["passed"]) == (0, True)
    assert (row["peer"], row["spread"], row["peer_kld"]) == (426.600182, 0.039497, 0.075935)
    line = (
        "| F32 | pass | 426.0000 | +0.023 % | +0.023 % | +0.141 % ± 3.950 | 0.079700 | 0.070000 | 0.075935 |"
    )
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ck", "kld", "eight"),
    [
        # Further from the file's own numbers, on either side, and diverging more, in 15 bits or in 8.
        (426.5, 0.07, 0.07),
        (425.5, 0.07, 0.07),
        (426.0, 0.08, 0.07),
        (426.0, 0.07, 0.08),
    ],
)
def test_what_is_further_apart_fails(
    check: Callable[..., Any], ck: float, kld: float, eight: float, capsys: pytest.CaptureFixture[str]
) -> None:
    code, row = check(426.0, ck, kld, eight)
    assert (code, row["passed"]) == (5, False)
    assert "ck must measure the file's own numbers, it does not of: F32" in capsys.readouterr().err


def test_a_type_that_it_does_not_know(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--types", "Q9"])
    assert script.main() == 2
    assert "--types: one of F32, F16, " in capsys.readouterr().err
