"""`StopFinder`: a reply as it comes, up to the first of some texts that end it.

What may become a stop text is held back, so that no part of one is ever seen, however the reply is cut into
pieces. The text that is complete first ends the reply; of several that are complete with one character, the
longest. Where a reply ends before a stop text is complete, what was held back is the model's own and comes
out.
"""

from collections.abc import Sequence

from ck.errors import UsageError


class StopFinder:
    """`stops` are the texts; none holds nothing back. Raises UsageError for an empty one."""

    def __init__(self, stops: Sequence[str]) -> None:
        check_stops(stops)
        # The longest first.
        self._stops = sorted(set(stops), key=len, reverse=True)
        self._held = ""
        # Of each character held, whether a reader is meant to see it.
        self._shown: list[bool] = []
        self.found = False

    def feed(self, text: str, shown: bool = True) -> str:
        """What `text` completes of the reply before a stop text. `shown` is false for a control token's text,
        which may be, or be part of, a stop text, and which is never handed out. After `found`, nothing comes.
        """
        if not self._stops:
            return text if shown else ""
        if self.found:
            return ""
        for character in text:
            self._held += character
            self._shown.append(shown)
            stop = next((stop for stop in self._stops if self._held.endswith(stop)), None)
            if stop is not None:
                self.found = True
                return self._release(len(self._held) - len(stop))
        return self._release(len(self._held) - self._begun())

    def finish(self) -> str:
        """What is held back, unless a stop text was found."""
        return "" if self.found else self._release(len(self._held))

    def _begun(self) -> int:
        """How many characters at the end of what is held begin a stop text, at most."""
        size = len(self._held)
        most = min(size, len(self._stops[0]) - 1)
        ends = ((n, self._held[size - n :]) for n in range(most, -1, -1))
        return next(n for n, end in ends if any(stop.startswith(end) for stop in self._stops))

    def _release(self, n: int) -> str:
        seen = "".join(c for c, shown in zip(self._held[:n], self._shown[:n], strict=True) if shown)
        self._held, self._shown = self._held[n:], self._shown[n:]
        return seen


def check_stops(stops: Sequence[str]) -> None:
    """Raises UsageError for an empty text, and for one text in place of a list."""
    if isinstance(stops, str):
        raise UsageError(f"stop: must be a list of texts, found the text {stops!r}")
    if "" in stops:
        raise UsageError("stop: a text must have one character at least, found an empty one")
