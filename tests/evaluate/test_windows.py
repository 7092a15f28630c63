"""Which tokens a model is given and which are scored, on an executable that writes down what it is fed."""

from typing import Any, cast

import numpy as np
import pytest

from ck.errors import MalformedError, UsageError
from ck.evaluate import windows as module
from ck.evaluate.measure import divergence_of, model_as_base, perplexity, perplexity_of
from ck.evaluate.windows import Windows, cut, n_scored, pieces_of
from ck.frontend.tokenizer import Tokenizer

V = 50


class Tokens:
    """A tokenizer whose tokens are the numbers of the text."""

    def __init__(self, bos: int | None) -> None:
        self.bos_id, self.add_bos = bos, bos is not None

    def encode(self, text: str, add_special: bool) -> list[int]:
        assert not add_special
        return [int(word) for word in text.split()]


class Engine:
    """Foretells of each token that the next is one more, with a logit of 2 among zeros."""

    n_vocab = V

    def __init__(self) -> None:
        self.fed: list[list[int]] = []
        self.extra = 0.0

    def reset(self) -> None:
        self.fed.append([])

    def prefill(self, ids: np.ndarray) -> None:
        self.fed[-1] += ids.tolist()

    def score(self, ids: np.ndarray) -> np.ndarray:
        self.fed[-1] += ids.tolist()
        logits = np.full((len(ids), V), self.extra, np.float32)
        logits[np.arange(len(ids)), (ids + 1) % V] += 2
        return logits


def numbers(*ids: int) -> Windows:
    return Windows(np.array([ids], np.int32), None)


def test_a_text_becomes_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(map(str, range(10, 34)))
    plain = cut(cast("Tokenizer", Tokens(None)), text, "t", 8)
    assert plain.ids.tolist() == [list(range(10 + 8 * n, 18 + 8 * n)) for n in range(3)]
    assert (plain.first, n_scored(8), n_scored(9), n_scored(3)) == (4, 3, 4, 1)
    assert plain.read(1).tolist() == [18, 19, 20, 21, 22, 23, 24]
    assert plain.scored(1).tolist() == [23, 24, 25]
    begun = cut(cast("Tokenizer", Tokens(1)), text, "t", 8, n_chunks=2)
    # The text begins with BOS, and so does every window as it is read; what is scored stays the text's.
    assert begun.ids.tolist() == [[1, 10, 11, 12, 13, 14, 15, 16], list(range(17, 25))]
    assert begun.read(1).tolist() == [1, 18, 19, 20, 21, 22, 23]
    assert begun.scored(1).tolist() == [22, 23, 24]


@pytest.mark.parametrize(("text", "found"), [("", 1), ("1 2 3", 4), (" ".join("1" * 14), 15)])
def test_a_text_too_short_is_one_line(text: str, found: int) -> None:
    message = (
        f"t: 16 tokens at least are required by windows of 8, found {found}; lower -c or give a longer text"
    )
    with pytest.raises(UsageError, match=message):
        cut(cast("Tokenizer", Tokens(1)), text, "t", 8)


def test_each_window_begins_anew_and_no_token_is_fed_that_is_not_needed() -> None:
    engine: Any = Engine()
    windows = Windows(np.arange(32, dtype=np.int32).reshape(4, 8), bos=40)
    found = list(perplexity_of(engine, windows))
    assert engine.fed == [[40, *range(8 * n + 1, 8 * n + 7)] for n in range(4)]
    # Every scored token is the one that was foretold.
    assert np.concatenate(found) == pytest.approx(np.log(V - 1 + np.e**2) - 2)
    assert perplexity(np.concatenate(found)).value == pytest.approx((V - 1 + np.e**2) / np.e**2)


def test_the_scored_half_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Engine()
    windows = Windows(np.random.default_rng(0).integers(0, V, (2, 20)).astype(np.int32), None)
    whole = list(perplexity_of(engine, windows))
    divergence = [each.kld for each in divergence_of(engine, windows, model_as_base(engine, windows))]
    monkeypatch.setattr(module, "PIECE_BYTES", 4 * V * 4)
    assert list(pieces_of(20, V)) == [slice(0, 4), slice(4, 8), slice(8, 9)]
    assert np.array_equal(whole, list(perplexity_of(engine, windows)))
    pieces = [each.kld for each in divergence_of(engine, windows, model_as_base(engine, windows))]
    assert np.array_equal(divergence, pieces)
    monkeypatch.setattr(module, "PIECE_BYTES", 1)
    assert len(list(pieces_of(20, V))) == 9


def test_logits_that_are_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Engine()
    engine.extra = np.nan
    with pytest.raises(MalformedError, match="must be numbers, those of window 1 are not all"):
        list(perplexity_of(engine, numbers(*range(8))))
