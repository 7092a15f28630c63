"""`ck-opt --reduce FILE --test CMD`: shrink an IR file while a command fails on it.

The command fails when it exits as it does on FILE, with a code that is not 0. The file that it gets holds the
comment lines at FILE's beginning, so that a reproducer stays one. The smallest file so far is written
whenever there is one, so an interruption loses nothing.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from xdsl.dialects.builtin import ModuleOp

from ck.cli.output import is_stream, write_result
from ck.errors import MalformedError, UsageError
from ck.ir.reduce import Reduction

SECONDS = 300.0


@dataclass(frozen=True)
class Command:
    """A command line that takes a file, and how long it may run."""

    words: tuple[str, ...]
    seconds: float

    @staticmethod
    def parse(text: str, seconds: float) -> "Command":
        """The command line `text`, split as a shell would. Raises UsageError."""
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise UsageError(f"--test: a command line is required, got {text!r}: {error}".lower()) from error
        if not words:
            raise UsageError("--test: a command line is required, got an empty one")
        return Command(words, seconds)

    def run(self, file: Path) -> int | None:
        """The exit code on `file`; None when it takes too long. Raises UsageError when nothing starts."""
        words = [word.replace("%s", str(file)).replace("{}", str(file)) for word in self.words]
        if not any("%s" in word or "{}" in word for word in self.words):
            words.append(str(file))
        quiet = subprocess.DEVNULL
        try:
            # A session of its own, so that what it started ends with it.
            started = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"--test: {words[0]}: a program is required, {reason}") from error
        try:
            return started.wait(self.seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end_all(started)


def _end_all(started: "subprocess.Popen[bytes]") -> None:
    """End a process and what it left running."""
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def reduce_file(
    source: Path, parse: Callable[[str], ModuleOp], command: Command, seconds: float, output: str | None
) -> int:
    """Shrink `source` and write what is left to `output`, or stdout; returns the exit code.

    Raises UsageError when the command does not fail on `source`, MalformedError when `source` is no text.
    """
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{source}: IR is UTF-8 text, byte {error.start} is not") from error
    module = parse(text)
    module.verify()
    comments = _comments(text)
    with TemporaryDirectory(prefix="ck-reduce-") as folder:
        tried = Path(folder) / source.name
        code = _first_code(command, text, tried, source)

        def still_fails(candidate: ModuleOp) -> bool:
            tried.write_text(f"{comments}{candidate!s}\n", encoding="utf-8")
            return command.run(tried) == code

        def report(line: str) -> None:
            print(f"// reduce {line}", file=sys.stderr)
            keep()

        def keep() -> None:
            if output is not None and not is_stream(output):
                write_result(f"{comments}{reduction.best!s}\n", output)

        reduction = Reduction(module, still_fails, seconds, report)
        keep()
        ended = _run(reduction)
    write_result(f"{comments}{reduction.best!s}\n", output)
    return ended


def _first_code(command: Command, text: str, tried: Path, source: Path) -> int:
    tried.write_text(text, encoding="utf-8")
    code = command.run(tried)
    if code is None:
        raise UsageError(
            f"--test: a command that ends within {command.seconds:g} s is required; raise --test-timeout"
        )
    if code == 0:
        raise UsageError(f"--test: a command that fails on {source} is required, this one exits with 0")
    return code


def _run(reduction: Reduction) -> int:
    """Search; the exit code."""
    started, size = time.monotonic(), reduction.size
    ended = 0
    try:
        reduction.run()
    except KeyboardInterrupt:
        ended = 130
    wall_s = time.monotonic() - started
    print(
        f"// reduce: {size.n_ops} -> {reduction.size.n_ops} ops, {reduction.n_tested} tests, {wall_s:.1f} s"
        f"{', interrupted' if ended else ''}",
        file=sys.stderr,
    )
    return ended


def _comments(text: str) -> str:
    """The comment lines that `text` begins with."""
    # Only a line feed ends a comment.
    lines = [f"{line}\n" for line in text.split("\n")]
    n_comments = next((n for n, line in enumerate(lines) if not line.startswith("//")), len(lines))
    return "".join(lines[:n_comments])
