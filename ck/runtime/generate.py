"""The generation loop: feed a prompt, then choose and feed one token after another, handing out text.

A `Session` keeps what the executable's cache holds, so a prompt that begins like the last one (the next
turn of a chat) is fed only from where it differs. Because logits depend on the tokens alone, never on how
they were fed, a reply is the same with and without that reuse.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ck.errors import ResourceError, UsageError
from ck.frontend.tokenizer import StreamDecoder, Tokenizer
from ck.runtime.sampling import Sampler
from ck.runtime.stops import StopFinder

# Why a reply ended: end-of-generation token, stop text, token limit, full context, or the caller's wish.
StopReason = Literal["eog", "stop", "length", "context", "interrupted"]


class Engine(Protocol):
    """What the loop needs of `ck.runtime.executable.Executable`; positions and sizes in tokens."""

    @property
    def n_ctx(self) -> int: ...
    @property
    def chunk(self) -> int: ...
    @property
    def pos(self) -> int: ...
    def prefill(self, tokens: NDArray[np.int32], /) -> NDArray[np.float32]: ...
    def decode(self, token: int, /) -> NDArray[np.float32]: ...
    def rewind(self, pos: int, /) -> bool: ...
    def reset(self) -> None: ...


class Piece(NamedTuple):
    """A generated token and the text it completes, perhaps none; `token` is None for the rest at the end.

    A `Conversation` has what the model thinks before it answers as `thought`, not as text.
    """

    token: int | None
    text: str
    thought: str = ""


@dataclass
class Stats:
    """What one reply cost: counts in tokens, times in seconds; `n_cached` prompt tokens were not fed."""

    n_prompt: int = 0
    n_cached: int = 0
    n_generated: int = 0
    prefill_s: float = 0.0
    ttft_s: float = 0.0
    decode_s: float = 0.0
    stop: StopReason = "interrupted"

    @property
    def prefill_tps(self) -> float:
        """Prompt tokens fed a second; 0 when none were."""
        return (self.n_prompt - self.n_cached) / self.prefill_s if self.prefill_s > 0 else 0.0

    @property
    def decode_tps(self) -> float:
        """Tokens a second after the first, sampling included; 0 below two tokens."""
        return (self.n_generated - 1) / self.decode_s if self.n_generated > 1 and self.decode_s > 0 else 0.0

    def line(self) -> str:
        """One line for a person."""
        if self.n_prompt == 0:
            return "nothing was generated yet"
        return (
            f"{self.n_prompt} prompt tokens ({self.n_cached} cached), {self.prefill_tps:.0f} tok/s, "
            f"first token after {self.ttft_s * 1e3:.0f} ms; "
            f"{self.n_generated} tokens, {self.decode_tps:.1f} tok/s; stopped by {self.stop}"
        )

    def as_json(self) -> dict[str, float | int | str]:
        """The fields and rates by name."""
        return {**vars(self), "prefill_tps": self.prefill_tps, "decode_tps": self.decode_tps}


class _ReplyText:
    """A reply's text, token by token: whole characters, no control tokens, nothing from a stop text on."""

    def __init__(self, tokenizer: Tokenizer, finder: StopFinder) -> None:
        self._tokenizer, self._finder = tokenizer, finder
        self._decoder = StreamDecoder(tokenizer)

    def feed(self, token: int) -> str:
        """What `token` completes."""
        if self._tokenizer.is_control(token):
            return self._finder.feed(self._tokenizer.piece(token).decode("utf-8", "replace"), shown=False)
        return self._finder.feed(self._decoder.feed(token))

    def finish(self) -> str:
        """What is held back at the end."""
        return "" if self._finder.found else self._finder.feed(self._decoder.finish()) + self._finder.finish()


def never() -> bool:
    """The answer of a caller that lets a reply run to its end."""
    return False


@dataclass
class Session:
    """One sequence on one executable. `prompt`, `reply`, `stats` are the latest reply's, also while it runs.

    It begins with an empty cache, and the executable is its own until another session begins on it.
    `stop` are texts that end a reply and are no part of it, over what the model says and thinks alike.
    `progress` is called with the prompt's tokens fed and in all, after each chunk of a prompt of several.
    """

    engine: Engine
    tokenizer: Tokenizer
    stats: Stats = field(default_factory=Stats)
    prompt: Sequence[int] = ()
    reply: list[int] = field(default_factory=list[int])
    stop: Sequence[str] = ()
    progress: Callable[[int, int], None] | None = None
    _fed: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.reset()

    def stream(
        self,
        prompt: Sequence[int],
        sampler: Sampler,
        max_tokens: int = -1,
        should_stop: Callable[[], bool] = never,
    ) -> Iterator[Piece]:
        """Generate after `prompt` up to `max_tokens` (-1: no limit), asking `should_stop` before each token.

        Raises UsageError for an empty prompt and ResourceError for one that leaves no room in the context.
        """
        self._check(prompt, max_tokens)
        finder = StopFinder(self.stop)
        self.prompt, self.reply = prompt, []
        stats = self.stats = Stats(n_prompt=len(prompt))
        sampler.forget()
        sampler.see(prompt)
        start = time.perf_counter()
        logits = self._feed(prompt, should_stop)
        stats.prefill_s = time.perf_counter() - start
        text = _ReplyText(self.tokenizer, finder)
        while logits is not None and not self._ended(max_tokens, should_stop):
            token = self._choose(sampler, logits, start)
            if token is None:
                break
            yield Piece(token, text.feed(token))
            logits = None if self._stopped(finder) else self._next_logits(token, max_tokens)
        rest = text.finish()
        if rest:
            yield Piece(None, rest)

    def _choose(self, sampler: Sampler, logits: NDArray[np.float32], start: float) -> int | None:
        """The next token, counted; None for one that ends the reply."""
        token, stats = sampler.choose(logits), self.stats
        now = time.perf_counter() - start
        if stats.n_generated == 0:
            stats.ttft_s = now
        if token in self.tokenizer.eog_ids:
            stats.stop = "eog"
            return None
        sampler.see([token])
        self.reply.append(token)
        stats.n_generated += 1
        stats.decode_s = now - stats.ttft_s
        return token

    def _stopped(self, finder: StopFinder) -> bool:
        if finder.found:
            self.stats.stop = "stop"
        return finder.found

    @property
    def fed(self) -> list[int]:
        """The tokens that the executable's cache holds, a copy."""
        return list(self._fed)

    def resume(self, tokens: list[int]) -> None:
        """Go on from `tokens`, which the executable's cache holds by another way than `stream`."""
        self._fed[:] = tokens

    def reset(self) -> None:
        """Forget everything fed."""
        self.engine.reset()
        self._fed.clear()

    def _check(self, prompt: Sequence[int], max_tokens: int) -> None:
        if not prompt:
            raise UsageError("prompt: must have at least one token, it has none")
        if max_tokens < -1:
            raise UsageError(f"max_tokens: must be -1 or more, got {max_tokens}")
        if len(prompt) > self.engine.n_ctx:
            raise ResourceError(
                f"prompt: must fit the context of {self.engine.n_ctx} tokens, it has {len(prompt)}; "
                "shorten it or raise the context with -c"
            )

    def _feed(self, prompt: Sequence[int], should_stop: Callable[[], bool]) -> NDArray[np.float32] | None:
        """Logits after the last token of `prompt`; None when stopped on the way."""
        start = self._reuse(prompt)
        self.stats.n_cached = start
        logits = None
        while start < len(prompt):
            if should_stop():
                return None
            part = list(prompt[start : start + self.engine.chunk])
            logits = self._run(part, partial(self.engine.prefill, np.array(part, np.int32)))
            start += len(part)
            if self.progress is not None and len(prompt) - self.stats.n_cached > self.engine.chunk:
                self.progress(start, len(prompt))
        return logits

    def _reuse(self, prompt: Sequence[int]) -> int:
        """Tokens of `prompt` the cache keeps: the longest shared prefix, with one token left to feed."""
        limit = min(len(self._fed), len(prompt) - 1)
        same = next((i for i in range(limit) if self._fed[i] != prompt[i]), limit)
        if same < len(self._fed):
            if same and self.engine.rewind(same):
                del self._fed[same:]
            else:
                self.reset()
        return len(self._fed)

    def _run(self, tokens: list[int], call: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        self._fed.extend(tokens)
        try:
            return call()
        finally:
            # An interrupt may come before or after the cache took the tokens: its position knows.
            del self._fed[self.engine.pos :]

    def _next_logits(self, token: int, max_tokens: int) -> NDArray[np.float32] | None:
        if self.stats.n_generated == max_tokens:
            self.stats.stop = "length"
            return None
        if self.engine.pos >= self.engine.n_ctx:
            self.stats.stop = "context"
            return None
        return self._run([token], partial(self.engine.decode, token))

    def _ended(self, max_tokens: int, should_stop: Callable[[], bool]) -> bool:
        if max_tokens == 0:
            self.stats.stop = "length"
            return True
        self.stats.stop = "interrupted"
        return should_stop()
