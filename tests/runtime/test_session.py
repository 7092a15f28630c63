"""Replies on compiled cuts of the demo models: a warm cache says what a cold one says, whatever was in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

import ck
from ck.runtime.generate import Session
from ck.runtime.model import Model
from ck.runtime.samplers.params import SamplingParams
from ck.runtime.sampling import Sampler
from tests.models import PATTERN_LAYERS

TEXT = (Path(__file__).parents[1] / "data" / "prose.txt").read_text("utf-8")
# Beyond the window and its ring: 512 positions and a chunk.
N_CTX, CHUNK, LONG, N_VOCAB = 1100, 64, 900, 4096


@pytest.fixture(scope="module", params=sorted(PATTERN_LAYERS))
def model(request: pytest.FixtureRequest, cut: Callable[..., Path]) -> Model:
    path = cut(request.param, PATTERN_LAYERS[request.param], N_VOCAB)
    return ck.compile(path, context_len=N_CTX, chunk=CHUNK)


def reply(model: Model, session: Session, prompt: list[int], seed: int = 5) -> list[int | None]:
    sampler = Sampler(SamplingParams(seed=seed))
    return [piece.token for piece in session.stream(prompt, sampler, max_tokens=12)]


def test_a_warm_cache_says_what_a_cold_one_says(model: Model) -> None:
    ids = model.tokenizer.encode(TEXT)[:LONG]
    warm = Session(model.exe, model.tokenizer)
    # Growing, shrinking to a common prefix, another text, and a jump back that a window's ring cannot make.
    prompts = [ids[:70], ids[:200], ids[:150], ids[:10] + ids[50:90], ids, ids[:100], ids[:880]]
    warm_replies, cached = list[list[int | None]](), list[int]()
    for prompt in prompts:
        warm_replies.append(reply(model, warm, prompt))
        cached.append(warm.stats.n_cached)
    assert cached[1] == 70
    assert cached[2] == 149
    assert cached[3] == 10
    for prompt, expected in zip(prompts, warm_replies, strict=True):
        cold = Session(model.exe, model.tokenizer)
        assert reply(model, cold, prompt) == expected
        assert cold.stats.n_cached == 0


def test_a_session_begins_empty_whatever_ran_before(model: Model) -> None:
    ids = model.tokenizer.encode(TEXT)[:LONG]
    first = reply(model, Session(model.exe, model.tokenizer), ids[:40])
    end = model.exe.pos
    model(ids[:70])
    assert reply(model, Session(model.exe, model.tokenizer), ids[:40]) == first
    assert model.exe.pos == end


def test_a_full_context_ends_the_reply(model: Model) -> None:
    ids = (model.tokenizer.encode(TEXT) * 3)[: N_CTX - 3]
    session = Session(model.exe, model.tokenizer)
    sampler = Sampler(SamplingParams(temp=0))
    tokens = [piece.token for piece in session.stream(ids, sampler)]
    assert session.stats.stop in ("context", "eog")
    assert len(tokens) <= 4
    assert model.exe.pos <= N_CTX
