"""Text from a model or its file on its way to a terminal."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

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


class Pieces(Protocol):
    """What the display needs of a tokenizer."""

    def piece(self, token: int, /) -> bytes: ...


@dataclass(frozen=True)
class Display:
    """How what a model says is shown: with ids and pieces of tokens behind it, in ASCII alone."""

    ids: bool = False
    pieces: bool = False
    ascii: bool = False

    def text(self, text: str, out: TextIO) -> str:
        """`text` as it may be written to `out`."""
        safe = terminal_safe(text) if out.isatty() else text
        return safe.encode("ascii", "backslashreplace").decode() if self.ascii else safe

    def lines(self, prompt: Sequence[int], answer: Sequence[int], tokenizer: Pieces) -> Iterator[str]:
        """What is asked for of a reply's tokens."""
        for name, tokens in (("prompt", prompt), ("answer", answer)):
            if self.ids:
                yield " ".join([f"{name} ids:", *map(str, tokens)])
            if self.pieces:
                yield " ".join([f"{name} pieces:", *(self.piece(tokenizer.piece(token)) for token in tokens)])

    def piece(self, piece: bytes) -> str:
        """A token's text in quotes, what cannot be seen escaped; bytes that are no characters as such."""
        try:
            return ascii(piece.decode()) if self.ascii else repr(piece.decode())
        except UnicodeDecodeError:
            return repr(piece)[1:]


class ThoughtPrinter:
    """Writes what a model thinks before it answers to `out`: dim on a terminal, else between two marks.

    Nothing is written unless `shown`. NO_COLOR and a terminal that is dumb get the marks.
    """

    def __init__(self, out: TextIO, shown: bool, display: Display | None = None) -> None:
        self._out, self._shown, self._display = out, shown, display or Display()
        styled = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._begin, self._end = (_DIM, f"{_PLAIN}\n\n") if styled else ("[thinking]\n", "\n[/thinking]\n")
        self._open = False

    def write(self, thought: str, answer: str) -> None:
        """More of a thought, which ends where the answer begins."""
        if thought and self._shown:
            said = self._display.text(thought, self._out)
            self._out.write(said if self._open else self._begin + said)
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
