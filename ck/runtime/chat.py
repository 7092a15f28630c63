"""Talking with a model: `Conversation` turns turns into prompts; ck/runtime/repl.py has it at a terminal.

With a chat template every turn renders the whole conversation again and the session feeds what is new. A base
model has no template: each text is completed on its own, as it stands.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from ck.errors import CkWarning, UsageError
from ck.frontend.chat_template import encode_chat
from ck.frontend.thinking import Template, read_thinking
from ck.runtime.generate import Piece, Session, never
from ck.runtime.sampling import Sampler
from ck.runtime.thinking import ThoughtSplitter

ThinkingMode = Literal["auto", "on", "off"]


@dataclass
class Conversation:
    """A system message, the turns so far, and the session they run on.

    `thinking` turns on or off what the template has a switch for; auto leaves it as the template has it. A
    CkWarning says that there is no switch. `asked` is what the last reply answered. Raises UsageError for a
    system message, or on or off, without a template.
    """

    session: Session
    template: Template | None
    system: str | None = None
    thinking: ThinkingMode = "auto"
    turns: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    asked: str | None = None

    def __post_init__(self) -> None:
        if self.template is None:
            if self.system is not None:
                raise _no_system()
            if self.thinking != "auto":
                raise UsageError("thinking: needs a chat template with a switch, the model has no template")
        self._marks = None if self.template is None else read_thinking(self.template)
        self._variables: dict[str, bool] = {}
        if self.thinking != "auto":
            if self._marks is None or self._marks.switch is None:
                always = "thinks or not as the model likes" if self._marks else "knows no thinking"
                warnings.warn(f"thinking: the chat template has no switch, it {always}", CkWarning, 2)
            else:
                self._variables[self._marks.switch] = self.thinking == "on"

    def encode(self, text: str) -> list[int]:
        """The prompt that asks for the reply to `text`.

        Control tokens come from the template alone: where a message spells one, it stays text. BOS, where the
        tokenizer adds one, is there once, whether or not the template writes it.
        """
        tokenizer = self.session.tokenizer
        if self.template is None:
            return tokenizer.encode(text, add_special=True)
        return encode_chat(tokenizer, self._render(self.template, text))

    def reply(
        self, text: str, sampler: Sampler, max_tokens: int = -1, should_stop: Callable[[], bool] = never
    ) -> Iterator[Piece]:
        """Stream the reply to `text`. The turn is remembered, as far as it came, unless an error ends it."""
        if self.template is None:
            ids = self.encode(text)
            self.asked = text
            yield from self.session.stream(ids, sampler, max_tokens, should_stop)
            return
        prompt = self._render(self.template, text)
        ids = encode_chat(self.session.tokenizer, prompt)
        answer, thought = "", ""
        for piece in self._parted(self.session.stream(ids, sampler, max_tokens, should_stop), prompt):
            answer += piece.text
            thought += piece.thought
            yield piece
        # The template decides what a later turn sees of a thought.
        said = {"role": "assistant", "content": answer, **({"reasoning_content": thought} if thought else {})}
        self.turns += [{"role": "user", "content": text}, said]
        self.asked = text

    def again(
        self, sampler: Sampler, max_tokens: int = -1, should_stop: Callable[[], bool] = never
    ) -> Iterator[Piece]:
        """Stream another reply to what was asked last, in the place of the last one, which an error keeps.

        Raises UsageError when nothing was asked yet.
        """
        if self.asked is None:
            raise UsageError("regen: there must be a reply to do again, nothing was asked yet")
        last = self.turns[-2:]
        del self.turns[-2:]
        before = len(self.turns)
        try:
            yield from self.reply(self.asked, sampler, max_tokens, should_stop)
        finally:
            if len(self.turns) == before:
                self.turns += last

    def set_system(self, text: str | None) -> None:
        """Let `text` be the system message from the next prompt on. Raises UsageError without a template."""
        if self.template is None:
            raise _no_system()
        self.system = text

    def answer(self, text: str, sampler: Sampler, max_tokens: int = -1) -> str:
        """The whole reply to `text`, without the thought before it."""
        return "".join(piece.text for piece in self.reply(text, sampler, max_tokens))

    def reset(self) -> None:
        """Forget the turns and empty the cache."""
        self.turns.clear()
        self.asked = None
        self.session.reset()

    def _render(self, template: Template, text: str) -> str:
        guard = self.session.tokenizer.guard
        first = [{"role": "system", "content": self.system}] if self.system is not None else []
        said = [*first, *self.turns, {"role": "user", "content": text}]
        messages = [{key: v if key == "role" else guard(v) for key, v in turn.items()} for turn in said]
        return template.render(messages, True, self._variables)

    def _parted(self, pieces: Iterator[Piece], prompt: str) -> Iterator[Piece]:
        """`pieces` with thoughts in their place."""
        if self._marks is None:
            yield from pieces
            return
        splitter = ThoughtSplitter(self._marks, prompt.rstrip().endswith(self._marks.start))
        for piece in pieces:
            yield Piece(piece.token, *splitter.feed(piece.text + self._mark(piece.token)))
        answer, thought = splitter.finish()
        if answer or thought:
            yield Piece(None, answer, thought)

    def _mark(self, token: int | None) -> str:
        """The text of a control token that is a mark; of others, which a reader does not see, none."""
        assert self._marks is not None
        tokenizer = self.session.tokenizer
        if token is None or not tokenizer.is_control(token):
            return ""
        text = tokenizer.piece(token).decode("utf-8", "replace")
        return text if text in (self._marks.start, self._marks.end) else ""


def _no_system() -> UsageError:
    return UsageError("system: needs a chat template, the model has none; put it into the prompt")
