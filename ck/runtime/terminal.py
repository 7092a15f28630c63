"""Text from a model or its file on its way to a terminal."""

import os
from typing import TextIO

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def terminal_safe(text: str) -> str:
    """`text` with control characters other than newline and tab shown as symbols, so that output that nobody
    vouches for cannot move the cursor, set the title or answer in the user's name.
    """
    return text.translate(_SYMBOLS)


_SYMBOLS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(0x7F, 0xA0), 0xFFFD),
}


class ThoughtPrinter:
    """Writes what a model thinks before it answers to `out`: dim on a terminal, else between two marks.

    Nothing is written unless `shown`. NO_COLOR and a terminal that is dumb get the marks.
    """

    def __init__(self, out: TextIO, shown: bool) -> None:
        self._out, self._shown = out, shown
        styled = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._begin, self._end = (_DIM, f"{_PLAIN}\n\n") if styled else ("[thinking]\n", "\n[/thinking]\n")
        self._safe = terminal_safe if out.isatty() else str
        self._open = False

    def write(self, thought: str, answer: str) -> None:
        """More of a thought, which ends where the answer begins."""
        if thought and self._shown:
            self._out.write(self._safe(thought) if self._open else self._begin + self._safe(thought))
            self._out.flush()
            self._open = True
        if answer:
            self.end()

    def end(self) -> None:
        """No more of it comes."""
        if self._open:
            self._out.write(self._end)
            self._out.flush()
        self._open = False
