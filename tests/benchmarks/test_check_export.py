"""The check of exports against llama.cpp, with a stand-in for llama.cpp that answers from ck."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import GateError, MachineError
from ck.frontend.gguf import GgufFile
from ck.frontend.tokenizer import Tokenizer
from ck.train.corpus import Document
from ck.train.export.gguf_file import export_gguf
from ck.train.tokenizer_training import gguf_vocabulary, train_tokenizer
from tests.frontend.random_models import N_VOCAB, random_weights, small

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
PROSE = Path(__file__).parents[1] / "data" / "prose.txt"


@pytest.fixture
def check_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(PEERS))
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "cache"))
    return import_module("check_export")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tokenizer.json, and model.gguf of the same vocabulary."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = train_tokenizer([Document(PROSE.read_text(), PROSE, 1)], "bpe", N_VOCAB)
    tokenizer.save(folder / "tokenizer.json")
    hp = small("llama", context_length=64)
    for storage in ("f32", "f16"):
        name = "model.gguf" if storage == "f32" else "half.gguf"
        export_gguf(folder / name, hp, random_weights(hp), gguf_vocabulary(tokenizer), storage)
    return folder


@dataclass
class Peer:
    """Answers as the probe does; `spoil(rows)` changes what it says of the mode `of`."""

    model: Path
    of: str = ""
    spoil: Callable[[list[list[str]]], Any] = lambda rows: None
    asked: list[str] = field(default_factory=list[str])

    def __call__(self, model: Path, mode: str, *numbers: str, stdin: bytes) -> list[list[str]]:
        assert model == self.model
        self.asked.append(mode)
        rows = self.greedy(stdin, int(numbers[0])) if mode == "greedy" else self.tokenize(stdin)
        if mode == self.of:
            self.spoil(rows)
        return rows

    def tokenize(self, text: bytes) -> list[list[str]]:
        tokenizer = Tokenizer.from_gguf(GgufFile(self.model))
        return [[str(id)] for id in tokenizer.encode(text.decode(), parse_special=True)]

    def greedy(self, prompt: bytes, n_tokens: int) -> list[list[str]]:
        exe = ck.compile(self.model, dtype="f32", kv="f32").exe
        logits, rows = exe.prefill(np.array(prompt.split(), np.int32)), []
        for _ in range(n_tokens):
            second, first = np.partition(logits, -2)[-2:]
            rows.append([str(int(np.argmax(logits))), str(first), str(second)])
            logits = exe.decode(int(rows[-1][0]))
        return rows


Main = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def main(
    check_export: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Path
) -> Main:
    """Run the script on `model.gguf`: its exit code, what it printed as JSON, its line of error."""

    def call(peer: Peer, *words: str) -> tuple[int, Any, str]:
        sizes = ["--prompts", "2", "--prompt-tokens", "8", "--tokens", "12"]
        monkeypatch.setattr(sys, "argv", ["check_export.py", str(peer.model), str(PROSE), *sizes, *words])
        monkeypatch.setattr(check_export, "ask", peer)
        monkeypatch.setattr(check_export.llama_cpp, "describe", lambda: "a stand-in")
        code = check_export.main()
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return call


def test_what_agrees_passes(main: Main, run: Path) -> None:
    peer = Peer(run / "model.gguf")
    code, result, err = main(peer, "--run", str(run))
    assert (code, err) == (0, "")
    assert result["passed"]
    assert peer.asked == ["tokenize", "greedy", "greedy"]
    assert [each["equal"] for each in result["ids"]] == [True]
    assert [each["n_equal"] for each in result["greedy"]] == [12, 12]
    assert result["n_not_compared"] == sum(12 - each["n_certain"] for each in result["greedy"])
    assert max(each["max_logit_difference"] for each in result["greedy"]) < 1e-5


def change_id(row: int) -> Callable[[list[list[str]]], None]:
    def spoil(rows: list[list[str]]) -> None:
        rows[row][0] = "1" if rows[row][0] != "1" else "2"

    return spoil


def test_another_id_of_the_corpus_fails(main: Main, run: Path) -> None:
    code, result, err = main(Peer(run / "model.gguf", "tokenize", change_id(5)))
    assert (code, result["passed"]) == (5, False)
    assert err == f"check_export.py: {PROSE}: ids must be equal, they differ from 5 on\n"
    code, _, err = main(Peer(run / "model.gguf", "tokenize", lambda rows: rows.pop(0)))
    assert (code, err.rpartition(", ")[2]) == (5, "they differ from 0 on\n")


def test_where_lists_differ(check_export: ModuleType) -> None:
    assert check_export.first_difference([1, 2], [1, 2]) is None
    assert [check_export.first_difference([1, 2], other) for other in ([1], [1, 3], [1, 2, 3])] == [1, 1, 2]


def test_the_runs_own_tokenizer_counts(main: Main, run: Path, tmp_path: Path) -> None:
    text = "Another text altogether, which merges other pairs of letters. " * 9
    other = train_tokenizer([Document(text, PROSE, 1)], "bpe", 270)
    other.save(tmp_path / "tokenizer.json")
    assert main(Peer(run / "model.gguf"), "--run", str(tmp_path))[0] == 5


def test_another_continuation_fails_where_it_is_certain(main: Main, run: Path) -> None:
    code, result, err = main(Peer(run / "model.gguf", "greedy", change_id(3)))
    assert code == 5
    assert err == "check_export.py: prompt 0: the first 12 ids must be equal, 3 are\n"

    def close(rows: list[list[str]]) -> None:
        change_id(3)(rows)
        rows[3][2] = str(float(rows[3][1]) - 5e-4)

    code, result, err = main(Peer(run / "model.gguf", "greedy", close))
    assert (code, result["passed"], result["n_not_compared"]) == (0, True, 18)


def test_nothing_compared_is_no_pass(main: Main, run: Path) -> None:
    def tie(rows: list[list[str]]) -> None:
        rows[0][2] = rows[0][1]

    code, _, err = main(Peer(run / "model.gguf", "greedy", tie))
    assert (code, err.startswith("check_export.py: no continuation could be compared")) == (5, True)


def test_a_file_of_other_weights_or_too_short_a_context_is_refused(main: Main, run: Path) -> None:
    code, result, err = main(Peer(run / "half.gguf"))
    assert (code, result) == (2, None)
    assert err.endswith("half.gguf: must be stored as f32 throughout, found f16, f32\n")
    code, _, err = main(Peer(run / "model.gguf"), "--tokens", "60")
    assert (code, err.partition("model.gguf: ")[2]) == (
        2, "needs a context of 68 tokens, it has 64; give fewer --tokens\n"
    )  # fmt: skip


def test_a_missing_peer_names_the_command_that_builds_it(check_export: ModuleType) -> None:
    with pytest.raises(MachineError, match=r"not built; run: python benchmarks/peers/llama_cpp\.py"):
        check_export.build_probe()


def test_a_failing_probe_is_one_line(
    check_export: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    probe = tmp_path / "probe"
    probe.write_text("#!/bin/sh\necho 'the model cannot be loaded' >&2\nexit 1\n")
    probe.chmod(0o755)
    monkeypatch.setattr(check_export, "build_probe", lambda: probe)
    with pytest.raises(
        GateError, match=r"^x: llama.cpp must read it, exit code 1, the model cannot be loaded$"
    ):
        check_export.ask("x", stdin=b"")
