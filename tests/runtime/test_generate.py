"""The generation loop over a small stand-in whose next token is a fixed function of everything fed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ck.errors import ResourceError, UsageError
from ck.runtime.generate import Piece, Session, Stats
from ck.runtime.samplers.params import SamplingParams
from ck.runtime.sampling import Sampler

N_VOCAB = 32
EOG = 0


class Engine:
    """Keeps its tokens; the likeliest next one is 1 + (their weighted sum mod 31), or what `script` says."""

    def __init__(self, n_ctx: int = 64, chunk: int = 4, script: list[int] | None = None) -> None:
        self.n_ctx, self.chunk, self.tokens = n_ctx, chunk, list[int]()
        self.script, self.n_fed, self.can_rewind = script, 0, True

    @property
    def pos(self) -> int:
        return len(self.tokens)

    def _logits(self) -> Any:
        logits = np.zeros(N_VOCAB, np.float32)
        weighted = sum((i + 1) * token for i, token in enumerate(self.tokens))
        token = 1 + weighted % (N_VOCAB - 1) if self.script is None else self.script.pop(0)
        logits[token] = 9
        return logits

    def prefill(self, tokens: Any, /) -> Any:
        assert tokens.dtype == np.int32
        assert 0 < len(tokens) <= self.chunk
        assert self.pos + len(tokens) <= self.n_ctx
        self.tokens += tokens.tolist()
        self.n_fed += len(tokens)
        return self._logits()

    def decode(self, token: int, /) -> Any:
        return Engine.prefill(self, np.array([token], np.int32))

    def rewind(self, pos: int, /) -> bool:
        if self.can_rewind:
            del self.tokens[pos:]
        return self.can_rewind

    def reset(self) -> None:
        self.tokens.clear()


PIECES = {1: b"a", 2: b"\xf0\x9f", 3: b"\x98", 4: b"\x80", 5: b"\xff"}


class Tokenizer:
    eog_ids = frozenset({EOG})

    def piece(self, token: int, /) -> bytes:
        return PIECES.get(token, b"<%d>" % token)

    def is_control(self, token: int, /) -> bool:
        return token == 6


def greedy() -> Sampler:
    return Sampler(SamplingParams(temp=0))


def run(session: Session, prompt: list[int], **settings: Any) -> list[int | None]:
    return [piece.token for piece in session.stream(prompt, greedy(), **settings)]


def test_stops_at_the_token_limit_without_a_wasted_step() -> None:
    engine = Engine()
    session = Session(engine, Tokenizer())
    assert len(run(session, [3, 1, 4, 1, 5], max_tokens=6)) == 6
    assert (session.stats.stop, session.stats.n_generated, session.stats.n_prompt) == ("length", 6, 5)
    # The last token is handed out, not fed.
    assert engine.pos == 5 + 5


def test_zero_tokens_feeds_the_prompt_only() -> None:
    engine = Engine()
    session = Session(engine, Tokenizer())
    assert run(session, [3, 1], max_tokens=0) == []
    assert (session.stats.stop, engine.pos) == ("length", 2)


def test_stops_at_end_of_generation_and_keeps_it_out_of_the_text() -> None:
    session = Session(Engine(script=[1, 1, EOG]), Tokenizer())
    assert list(session.stream([9], greedy())) == [Piece(1, "a"), Piece(1, "a")]
    assert (session.stats.stop, session.stats.n_generated) == ("eog", 2)


def test_stops_when_the_context_is_full() -> None:
    engine = Engine(n_ctx=10)
    session = Session(engine, Tokenizer())
    # 7 of the prompt, 3 fed, and the one that would need the 11th place.
    assert len(run(session, [1] * 7)) == 4
    assert (session.stats.stop, engine.pos) == ("context", 10)
    assert len(run(session, [2] * 10)) == 1


def test_a_prompt_that_does_not_fit_is_refused_before_anything_runs() -> None:
    engine = Engine(n_ctx=10)
    with pytest.raises(ResourceError, match="context of 10 tokens, it has 11; shorten it"):
        run(Session(engine, Tokenizer()), [1] * 11)
    assert engine.pos == 0


@pytest.mark.parametrize(("prompt", "limit"), [([], -1), ([1], -2)])
def test_refusals(prompt: list[int], limit: int) -> None:
    with pytest.raises(UsageError):
        run(Session(Engine(), Tokenizer()), prompt, max_tokens=limit)


def test_text_waits_for_whole_characters_and_hides_control_tokens() -> None:
    pieces = list(Session(Engine(script=[1, 2, 3, 4, 6, 5, 2, EOG]), Tokenizer()).stream([9], greedy()))
    assert [p.text for p in pieces] == ["a", "", "", "\U0001f600", "", "\ufffd", "", "\ufffd"]
    assert pieces[-1].token is None


@pytest.mark.parametrize("can_rewind", [True, False])
@pytest.mark.parametrize("second", [[3, 1, 4, 1, 5], [3, 1, 4, 9], [3, 1], [8, 8], [3]], ids=str)
def test_a_shared_prefix_is_not_fed_again_and_changes_nothing(second: list[int], can_rewind: bool) -> None:
    engine = Engine()
    engine.can_rewind = can_rewind
    session = Session(engine, Tokenizer())
    run(session, [3, 1, 4, 1], max_tokens=3)
    fed_before = engine.n_fed
    warm = run(session, second, max_tokens=5)
    assert warm == run(Session(Engine(), Tokenizer()), second, max_tokens=5)
    assert session.stats.n_cached + engine.n_fed - fed_before == len(second) + 4
    shared = {5: 4, 4: 3, 2: 1, 1: 0}[len(second)] if second != [8, 8] else 0
    # [3, 1, 4, 1] and its reply only go on growing for the first: nothing to rewind when the reply matches.
    assert session.stats.n_cached == (shared if can_rewind else 0)


def test_the_next_turn_reuses_the_reply() -> None:
    engine = Engine()
    engine.can_rewind = False
    session = Session(engine, Tokenizer())
    reply = run(session, [3, 1, 4], max_tokens=4)
    run(session, [3, 1, 4, *[t for t in reply if t is not None], 2, 2], max_tokens=1)
    # Growing needs no rewind. The reply's last token was never fed.
    assert session.stats.n_cached == 3 + 3


def stop_after(n_calls: int) -> Callable[[], bool]:
    left = [n_calls]

    def should_stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    return should_stop


def test_interrupt_between_chunks_and_between_tokens() -> None:
    engine = Engine()
    session = Session(engine, Tokenizer())
    assert run(session, [1] * 10, should_stop=stop_after(2)) == []
    assert (session.stats.stop, engine.pos) == ("interrupted", 8)
    assert len(run(session, [1] * 10, should_stop=stop_after(4))) == 3
    assert (session.stats.stop, session.stats.n_cached) == ("interrupted", 8)


@pytest.mark.parametrize("before", [True, False])
def test_a_signal_inside_a_step_leaves_the_session_true(before: bool) -> None:
    class Interrupted(Engine):
        armed = True

        def decode(self, token: int, /) -> Any:
            if before and self.armed:
                raise KeyboardInterrupt
            logits = super().decode(token)
            if self.armed:
                raise KeyboardInterrupt
            return logits

    engine = Interrupted()
    session = Session(engine, Tokenizer())
    with pytest.raises(KeyboardInterrupt):
        run(session, [3, 1, 4], max_tokens=4)
    engine.armed = False
    prompt = [3, 1, 4, 1, 5]
    assert run(session, prompt, max_tokens=4) == run(Session(Engine(), Tokenizer()), prompt, max_tokens=4)


def test_penalties_see_prompt_and_reply() -> None:
    sampler = Sampler(SamplingParams(temp=0, frequency_penalty=4.0))
    # Seen once, twice, three times: 9 - 4, 9 - 8, and then 9 - 12, below the 0 of all others.
    session = Session(Engine(script=[6, 6, 6, 6]), Tokenizer())
    assert [p.token for p in session.stream([6], sampler)] == [6, 6]
    assert session.stats.stop == "eog"


def test_rates() -> None:
    stats = Stats(110, 10, 21, prefill_s=0.5, ttft_s=0.6, decode_s=4.0, stop="eog")
    assert (stats.prefill_tps, stats.decode_tps) == (200.0, 5.0)
    assert stats.line() == (
        "110 prompt tokens (10 cached), 200 tok/s, first token after 600 ms; "
        "21 tokens, 5.0 tok/s; stopped by eog"
    )
    assert Stats(n_generated=1).decode_tps == 0
    assert stats.as_json()["decode_tps"] == 5.0
