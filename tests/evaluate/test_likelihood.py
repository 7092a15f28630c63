"""What tasks ask, on an executable whose logits follow from all tokens before, and which counts them."""

import sys
import zlib
from typing import Any, cast

import numpy as np
import pytest

from ck.errors import UsageError
from ck.evaluate.harness import read_settings
from ck.evaluate.likelihood import cut_off, encode, likelihoods, reply, rolling
from ck.runtime.executable import Executable

V, N_CTX = 11, 12


def logits_after(ids: list[int]) -> np.ndarray:
    seed = zlib.crc32(bytes(ids))
    return np.random.default_rng(seed).standard_normal(V).astype(np.float32)


class Engine:
    n_vocab, n_ctx = V, N_CTX

    def __init__(self, goes_back: bool = True) -> None:
        self.ids: list[int] = []
        self.goes_back, self.n_fed = goes_back, 0

    def reset(self) -> None:
        self.ids = []

    def rewind(self, pos: int) -> bool:
        if self.goes_back:
            del self.ids[pos:]
        return self.goes_back

    def score(self, ids: np.ndarray) -> np.ndarray:
        rows = []
        for token in ids.tolist():
            self.ids.append(token)
            rows.append(logits_after(self.ids))
        self.n_fed += len(rows)
        assert len(self.ids) <= N_CTX
        return np.array(rows)

    prefill = score


def exactly(context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """Token by token, from nothing."""
    ids, total, greedy = [*context, *continuation][-(N_CTX + 1) :], 0.0, True
    for at in range(len(ids) - len(continuation), len(ids)):
        logits = logits_after(ids[:at]).astype(np.float64)
        total += logits[ids[at]] - np.log(np.exp(logits).sum())
        greedy &= bool(logits.argmax() == ids[at])
    return total, greedy


REQUESTS = [
    ([1, 2, 3, 4], [5, 6]), ([1, 2, 3, 4], [7]), ([1, 2], [3, 4, 5]), ([9], [1]), ([1, 2, 3, 4], [5, 6]),
    ([*range(10)], [1, 2, 3, 4]), ([3], [*range(11), 1]), ([4, 4], []),
]  # fmt: skip


@pytest.mark.parametrize("goes_back", [True, False])
def test_a_likelihood_is_what_the_tokens_say(goes_back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    best = int(logits_after([8]).argmax())
    requests = [*REQUESTS, ([8], [best])]
    engine, done = Engine(goes_back), list[int]()
    found = likelihoods(cast("Executable", engine), requests, lambda: done.append(1))
    for (context, continuation), (log_prob, greedy) in zip(requests, found, strict=True):
        expected = exactly(context, continuation)
        assert (log_prob, greedy) == (pytest.approx(expected[0], abs=1e-5), expected[1]), context
    assert len(done) == len(requests)
    assert found[-1].greedy
    monkeypatch.setattr("ck.evaluate.windows.PIECE_BYTES", 2 * 4 * V)
    again = likelihoods(cast("Executable", Engine(goes_back)), requests, lambda: None)
    assert [each.log_prob for each in again] == pytest.approx([each.log_prob for each in found])


def test_what_requests_share_is_fed_once() -> None:
    question = [1, 2, 3, 4, 5, 6, 7, 8]
    answers = [(question, [n]) for n in range(V)]
    engine = Engine()
    likelihoods(cast("Executable", engine), answers, lambda: None)
    # The last token of the question is read again for each answer: its logits are not kept.
    assert engine.n_fed == len(question) + V - 1


def test_a_continuation_beyond_the_context() -> None:
    with pytest.raises(UsageError, match="must fit the context of 12 tokens, one has 13"):
        likelihoods(cast("Executable", Engine()), [([1], [2] * 13)], lambda: None)


@pytest.mark.parametrize("n", [0, 1, 11, 12, 13, 24, 25, 30])
def test_a_text_rolls_over_the_context(n: int) -> None:
    text = [token % V for token in range(n)]
    windows = list(rolling(text, 10, N_CTX))
    assert [token for _, continuation in windows for token in continuation] == text
    before = [10, *text]
    for (context, continuation), start in zip(windows, range(0, n, N_CTX), strict=True):
        assert context == before[start + 1 - len(context) : start + 1]
        # As much before it as there is room for, or one token.
        room = N_CTX + 1 - len(continuation)
        assert len(context) == (min(room, start) if start else 1)


class Words:
    """Tokens are characters; 0 begins a text, and is spelled ^."""

    bos_id, add_bos = 0, True

    def encode(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        assert parse_special
        assert not add_special
        return [0 if char == "^" else ord(char) for char in text]


def test_bos_comes_before_a_text_once() -> None:
    tokenizer: Any = Words()
    assert encode(tokenizer, "ab", True) == encode(tokenizer, "^ab", True) == [0, 97, 98]
    assert encode(tokenizer, "ab", False) == [97, 98]
    tokenizer.add_bos = False
    assert encode(tokenizer, "ab", True) == [97, 98]


class Talk:
    """A session that says its words one by one."""

    engine = Engine()

    def __init__(self, *words: str) -> None:
        self.words, self.prompt, self.said = words, list[int](), 0

    def stream(self, prompt: list[int], sampler: object, max_tokens: int) -> Any:
        self.prompt = prompt
        for word in self.words[:max_tokens]:
            self.said += 1
            yield type("Piece", (), {"text": word})


def test_a_reply_ends_before_the_first_stop() -> None:
    talk: Any = Talk("one ", "two\n", "\nthree", " four")
    sampler: Any = None
    assert reply(talk, [1], sampler, ["\n\n", "four"], 8) == "one two"
    assert talk.said == 3
    assert reply(talk, [1], sampler, [""], 3) == "one two\n\nthree"
    # A prompt that leaves no room loses its beginning.
    reply(talk, list(range(9)), sampler, [], 6)
    assert talk.prompt == [3, 4, 5, 6, 7, 8]
    with pytest.raises(UsageError, match="a reply of 12 tokens needs a longer context than 12; raise -c"):
        reply(talk, [1], sampler, [], 12)
    assert cut_off("abcabc", ["ca", "b"]) == "a"


def test_a_task_s_settings() -> None:
    sampler, until, n = read_settings({"until": "x", "do_sample": False, "temperature": 0.7})
    assert (until, n) == (["x"], 256)
    assert sampler.choose(np.array([0, 3, 2], np.float32)) == 1
    sampler, until, n = read_settings({"max_new_tokens": 7, "temperature": 9.0, "top_k": 2})
    assert (until, n) == ([], 7)
    drawn = {sampler.choose(np.array([0, 3, 2.9], np.float32)) for _ in range(60)}
    assert drawn == {1, 2}
    with pytest.raises(UsageError, match=r"a task's setting must be one of .*, found num_beams"):
        read_settings({"num_beams": 4})


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ck.cli.main import main

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert main(["eval", "tasks", "none.gguf", "--tasks", "arc_easy"]) == 6
    line = "ck: tasks: needs lm_eval, lm_eval is not installed; run: pip install 'ck-engine[tasks]'\n"
    assert capsys.readouterr().err == line
