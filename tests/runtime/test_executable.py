"""What an executable refuses, and that threads which share one take turns."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import ResourceError, UsageError
from ck.runtime.model import Model


@pytest.fixture(scope="module")
def model(cut: Callable[..., Path]) -> Model:
    return ck.compile(cut("smollm2-135m", 2, 4096), context_len=64, chunk=16)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([], "one token at least"),
        ([1, 4096], "0 to 4095, found 1 to 4096"),
        ([-1], "found -1 to -1"),
        ([2**40], "token ids are 0 to 4095"),
        ([1.5], "a list of integers, found float64"),
        ([[1, 2], [3, 4]], r"shape \(2, 2\)"),
        (5, r"shape \(\)"),
        ("abc", "a list of integers"),
    ],
)
def test_ids_that_are_none(model: Model, ids: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        model(ids)


def test_a_full_context(model: Model) -> None:
    model(np.arange(64))
    with pytest.raises(ResourceError, match="holds 64 tokens, 65 are wanted"):
        model.exe.decode(1)
    assert model.exe.pos == 64


def test_a_chunk_has_a_row(model: Model) -> None:
    model.exe.reset()
    with pytest.raises(UsageError, match="1 row at least"):
        model.exe.prefill([1, 2], chunk=-1)


@pytest.mark.parametrize("n", [0, -1])
def test_threads_are_counted_from_one(model: Model, n: int) -> None:
    with pytest.raises(UsageError, match="a number of threads from 1"):
        model.exe.set_threads(n)
    assert model.exe.n_threads >= 1


def test_closed_and_opened_again(model: Model) -> None:
    want = model(np.arange(20))
    model.exe.close()
    with pytest.raises(UsageError, match="closed"):
        model(np.arange(20))
    model.exe.set_threads(1)
    assert np.array_equal(model(np.arange(20)), want)


def test_threads_that_share_a_model_take_turns(model: Model) -> None:
    model.exe.set_threads(2)
    want = model(np.arange(60))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: model(np.arange(60)), range(6)))
    assert all(np.array_equal(one, want) for one in found)


def test_what_was_saved_goes_on_with_the_same_bits(model: Model) -> None:
    model.exe.reset()
    model.exe.prefill(np.arange(20))
    saved = model.exe.save()
    want = [model.exe.decode(token).copy() for token in (5, 6, 7)]
    model.exe.reset()
    model.exe.prefill(np.arange(100, 130))
    model.exe.load(saved)
    assert model.exe.pos == 20
    for token, logits in zip((5, 6, 7), want, strict=True):
        assert np.array_equal(model.exe.decode(token), logits)
