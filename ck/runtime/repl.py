"""`Repl`: a conversation by lines, at a terminal or in a pipe: text, or commands that begin with a slash."""

import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TextIO

from ck.errors import CkError, UsageError
from ck.runtime.chat import Conversation
from ck.runtime.chat_state import StateKeeper
from ck.runtime.generate import Piece
from ck.runtime.paths import given_path
from ck.runtime.sampling import Sampler
from ck.runtime.settings import change_setting, settings_line
from ck.runtime.terminal import Display, ThoughtPrinter

HELP = '''\
/help              this text
/reset             forget the conversation
/regen             another reply to the last text
/system TEXT       let TEXT be the system message; without TEXT there is none
/set NAME=VALUE    change a sampler's setting, stop or predict; without more, show them
/save FILE         keep the conversation and what was computed of it
/load FILE         go on with a conversation that was kept
/tokens            the tokens of the last prompt and reply
/stats             what the last reply cost
/exit              leave (or Ctrl-D)
"""                begins and ends a text of several lines
Ctrl-C             stops a reply; twice leaves
'''
# The commands that have something behind them.
_TAKE = ("/system", "/set", "/save", "/load")


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
    """A conversation by lines: text or commands from `source`, replies to `out`, all else to `err`.

    `keeper` saves and loads; `failed` is the exit code of the first turn or command that ended in an error.
    """

    conversation: Conversation
    sampler: Sampler
    keeper: StateKeeper
    max_tokens: int = -1
    display: Display = field(default_factory=Display)
    source: TextIO = field(default_factory=lambda: sys.stdin)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    failed: int = 0

    def run(self) -> int:
        """Talk until /exit or the end of input; 0 at a terminal, where errors were seen, else `failed`.

        Raises KeyboardInterrupt on a second Ctrl-C in a row.
        """
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
                return 0 if self._is_terminal() else self.failed
            self._handle(text)

    def _handle(self, text: str) -> None:
        name, _, rest = text.strip().partition(" ")
        commands = self._commands() if "\n" not in text.strip() else {}
        try:
            # "/reset button" is no command: what takes nothing stands alone.
            if name in commands and (not rest or name in _TAKE):
                commands[name](rest.strip())
            elif commands and name.startswith("/") and not rest:
                raise UsageError(f"no such command: {name}; /help lists them")
            elif name:
                self._answer(text)
        except CkError as error:
            self.failed = self.failed or error.exit_code
            self._note(f"ck: {error}")

    def _commands(self) -> dict[str, Callable[[str], None]]:
        return {
            "/help": lambda rest: self._note(HELP.rstrip()),
            "/reset": self._reset,
            "/stats": self._stats,
            "/tokens": self._tokens,
            "/regen": self._regen,
            "/system": self._system,
            "/save": self._save,
            "/load": self._load,
            "/set": self._set,
        }

    def _answer(self, text: str) -> None:
        interrupt = Interrupt()
        pieces = self.conversation.reply(text, self.sampler, self.max_tokens, interrupt.pressed)
        try:
            self._print(pieces, interrupt)
        except CkError as error:
            raise type(error)(f"{error}; /reset forgets the conversation") from error

    def _print(self, pieces: Iterator[Piece], interrupt: Interrupt) -> None:
        thoughts = ThoughtPrinter(self.err, self.conversation.thinking != "off", self.display)
        try:
            with interrupt.watch():
                for piece in pieces:
                    thoughts.write(piece.thought, piece.text)
                    self.out.write(self.display.text(piece.text, self.out))
                    self.out.flush()
        finally:
            thoughts.end()
        self.out.write("\n")
        self.out.flush()
        self._note_tokens(self.display)
        self._note(f"[{self.conversation.session.stats.line()}]")

    def _note_tokens(self, display: Display) -> None:
        session = self.conversation.session
        for line in display.lines(session.prompt, session.reply, session.tokenizer):
            self._note(line)

    def _reset(self, rest: str) -> None:
        self.conversation.reset()
        self._note("conversation forgotten")

    def _stats(self, rest: str) -> None:
        session = self.conversation.session
        used = f"{session.engine.pos} of {session.engine.n_ctx} tokens of context in use"
        self._note(f"{session.stats.line()}\n{used}, seed {self.sampler.seed}")

    def _tokens(self, rest: str) -> None:
        session = self.conversation.session
        self._note(f"{len(session.prompt)} tokens of prompt, {len(session.reply)} of reply")
        self._note_tokens(Display(True, True, self.display.ascii))

    def _regen(self, rest: str) -> None:
        interrupt = Interrupt()
        self._print(self.conversation.again(self.sampler, self.max_tokens, interrupt.pressed), interrupt)

    def _system(self, rest: str) -> None:
        self.conversation.set_system(rest or None)
        self._note("system message set" if rest else "no system message")

    def _save(self, rest: str) -> None:
        self._note(self.keeper.save(self.conversation, _path(rest)))

    def _load(self, rest: str) -> None:
        self._note(self.keeper.load(self.conversation, _path(rest)))

    def _set(self, rest: str) -> None:
        session = self.conversation.session
        if rest:
            name, _, value = rest.partition("=")
            name = name.strip().removeprefix("--").replace("-", "_")
            if name == "predict":
                self.max_tokens = _limit(value)
            else:
                change_setting(self.sampler, session, name, value.strip())
        stops = f", stop {' '.join(map(repr, session.stop))}" if session.stop else ""
        self._note(f"{settings_line(self.sampler.params)}, predict {self.max_tokens}{stops}")

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


def _path(rest: str) -> Path:
    if not rest:
        raise UsageError("a file is required, as in /save talk.state")
    return given_path(rest)


def _limit(value: str) -> int:
    try:
        limit = int(value)
    except ValueError:
        limit = -2
    if limit < -1:
        raise UsageError(f"predict: must be a whole number of tokens, -1 for no limit, got {value.strip()}")
    return limit
