"""Talking with a model: `Conversation` turns turns into prompts, `Repl` is the conversation at a terminal.

With a chat template every turn renders the whole conversation again and the session feeds what is new. A base
model has no template: each text is completed on its own, as it stands.
"""

import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from types import FrameType
from typing import Literal, TextIO

from ck.errors import CkError, CkWarning, UsageError
from ck.frontend.chat_template import encode_chat
from ck.frontend.thinking import Template, read_thinking
from ck.runtime.generate import Piece, Session, never
from ck.runtime.sampling import Sampler
from ck.runtime.terminal import ThoughtPrinter, terminal_safe
from ck.runtime.thinking import ThoughtSplitter

ThinkingMode = Literal["auto", "on", "off"]

HELP = '''\
/help    this text
/reset   forget the conversation
/stats   what the last reply cost
/exit    leave (or Ctrl-D)
"""      begins and ends a text of several lines
Ctrl-C   stops a reply; twice leaves
'''


@dataclass
class Conversation:
    """A system message, the turns so far, and the session they run on.

    `thinking` turns on or off what the template has a switch for; auto leaves it as the template has it. A
    CkWarning says that there is no switch. Raises UsageError for a system message, or on or off, without a
    template.
    """

    session: Session
    template: Template | None
    system: str | None = None
    thinking: ThinkingMode = "auto"
    turns: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def __post_init__(self) -> None:
        if self.template is None:
            if self.system is not None:
                raise UsageError("system: needs a chat template, the model has none; put it into the prompt")
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
            yield from self.session.stream(self.encode(text), sampler, max_tokens, should_stop)
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

    def answer(self, text: str, sampler: Sampler, max_tokens: int = -1) -> str:
        """The whole reply to `text`, without the thought before it."""
        return "".join(piece.text for piece in self.reply(text, sampler, max_tokens))

    def reset(self) -> None:
        """Forget the turns and empty the cache."""
        self.turns.clear()
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


class Interrupt:
    """Ctrl-C as a question: the first one makes `pressed` true, a second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.count = 0

    def pressed(self) -> bool:
        """Whether Ctrl-C was pressed since `watch` began."""
        return self.count > 0

    @contextmanager
    def watch(self) -> Generator[None]:
        """Take over Ctrl-C for the block; only in the main thread."""
        self.count = 0
        before = signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt


@dataclass
class Repl:
    """A conversation by lines: text or commands from `source`, replies to `out`, all else to `err`."""

    conversation: Conversation
    sampler: Sampler
    max_tokens: int = -1
    source: TextIO = field(default_factory=lambda: sys.stdin)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    def run(self) -> None:
        """Talk until /exit or the end of input. Raises KeyboardInterrupt on a second Ctrl-C in a row."""
        if self._is_terminal():
            # Its import gives input() line editing and history, where Python was built with it.
            with suppress(ImportError):
                import_module("readline")
            self._note("/help shows the commands")
        interrupted = False
        while True:
            try:
                text = self._read()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self._note("\nCtrl-C again or /exit leaves")
                continue
            interrupted = False
            if text is None or text.strip() in ("/exit", "/quit"):
                return
            self._handle(text)

    def _handle(self, text: str) -> None:
        command = text.strip()
        if command == "/help":
            self._note(HELP.rstrip())
        elif command == "/reset":
            self.conversation.reset()
            self._note("conversation forgotten")
        elif command == "/stats":
            self._note(self._stats())
        elif command.startswith("/") and "\n" not in command and " " not in command:
            self._note(f"no such command: {command}; /help lists them")
        elif command:
            self._answer(text)

    def _answer(self, text: str) -> None:
        interrupt = Interrupt()
        safe = terminal_safe if self.out.isatty() else str
        thoughts = ThoughtPrinter(self.err, self.conversation.thinking != "off")
        try:
            with interrupt.watch():
                for piece in self.conversation.reply(text, self.sampler, self.max_tokens, interrupt.pressed):
                    thoughts.write(piece.thought, piece.text)
                    self.out.write(safe(piece.text))
                    self.out.flush()
        except CkError as error:
            self._note(f"ck: {error}; /reset forgets the conversation")
            return
        finally:
            thoughts.end()
        self.out.write("\n")
        self.out.flush()
        self._note(f"[{self.conversation.session.stats.line()}]")

    def _stats(self) -> str:
        session = self.conversation.session
        used = f"{session.engine.pos} of {session.engine.n_ctx} tokens of context in use"
        return f"{session.stats.line()}\n{used}, seed {self.sampler.seed}"

    def _read(self) -> str | None:
        """The next text, which triple quotes may spread over lines; None at the end of input."""
        line = self._read_line("> ")
        if line is None or not line.lstrip().startswith('"""'):
            return line
        lines = [line.lstrip()[3:]]
        while not lines[-1].rstrip().endswith('"""'):
            line = self._read_line(". ")
            if line is None:
                return "\n".join(lines)
            lines.append(line)
        lines[-1] = lines[-1].rstrip()[:-3]
        return "\n".join(lines).strip("\n")

    def _read_line(self, prompt: str) -> str | None:
        if self._is_terminal() and self.source is sys.stdin and self.out is sys.stdout and self.out.isatty():
            try:
                return input(prompt)
            except EOFError:
                self._note("")
                return None
        if self._is_terminal():
            self.err.write(prompt)
            self.err.flush()
        line = self.source.readline()
        return line.removesuffix("\n") if line else None

    def _is_terminal(self) -> bool:
        return self.source.isatty()

    def _note(self, text: str) -> None:
        print(text, file=self.err, flush=True)
