"""Progress on stderr: bars and a status line on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Self

# Without a terminal, one line at most so often.
QUIET_S = 10.0


@contextmanager
def transfer(label: str) -> Generator[Callable[[int, int], None]]:
    """A callback (bytes done, bytes in all) that shows a download; nothing is shown, nor imported, before."""
    if not sys.stderr.isatty():
        yield _plain_transfer(label)
        return
    with ExitStack() as stack:
        bar: Callable[[int, int], None] | None = None

        def show(done: int, total: int) -> None:
            nonlocal bar
            bar = bar or _bar(label, stack)
            bar(done, total)

        yield show


def _bar(label: str, stack: ExitStack) -> Callable[[int, int], None]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    task = bars.add_task(label, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)


def _plain_transfer(label: str) -> Callable[[int, int], None]:
    next_line, said = time.monotonic(), -1

    def show(done: int, total: int) -> None:
        nonlocal next_line, said
        now = time.monotonic()
        if (now >= next_line or done == total) and done != said:
            next_line, said = now + QUIET_S, done
            print(f"{label}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", file=sys.stderr, flush=True)

    return show


class Status:
    """A line on a terminal's stderr that says what is being done and goes with the block; else nothing."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._shown = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Say `text` from now on."""
        if self._shown:
            print(f"\r\x1b[K{text} ...", end="", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Leave a line on stderr, terminal or not."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr)
        print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        self.show(self._text)
        return self

    def __exit__(self, *ending: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def prompt_progress() -> Callable[[int, int], None] | None:
    """A callback (tokens fed, tokens in all) that shows how far a long prompt is; None without a terminal."""
    return _show_prompt if sys.stderr.isatty() else None


def _show_prompt(done: int, total: int) -> None:
    text = "" if done == total else f"reading the prompt: {done} of {total} tokens"
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
