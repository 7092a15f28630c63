"""`ThoughtSplitter`: a reply as it comes, parted into the thought before it and the answer."""

from ck.frontend.thinking import Thinking


class ThoughtSplitter:
    """Parts one reply, whose thought the prompt has begun when `opened`.

    A thought begins with the start mark, before anything but white space, and ends with the end mark. Marks
    and the line breaks around them belong to neither part; what may become a mark is held back. A thought
    that does not end has no answer behind it.
    """

    def __init__(self, thinking: Thinking, opened: bool) -> None:
        self._start, self._end = thinking.start, thinking.end
        self._held = ""
        self._step = self._begin_thought if opened else self._seek_start

    def feed(self, text: str) -> tuple[str, str]:
        """The parts, (answer, thought), that `text` completes."""
        self._held += text
        return self._step()

    def finish(self) -> tuple[str, str]:
        """What is held back at the end: part of a mark that did not come, white space before one."""
        held, self._held = self._held, ""
        thinks = self._step in (self._begin_thought, self._think)
        return ("", held.rstrip("\n")) if thinks else (held, "")

    def _seek_start(self) -> tuple[str, str]:
        begun = self._held.lstrip()
        if begun.startswith(self._start):
            self._held = begun[len(self._start) :]
            self._step = self._begin_thought
            return self._step()
        if self._start.startswith(begun):
            return "", ""
        self._step = self._answer
        return self._step()

    def _begin_thought(self) -> tuple[str, str]:
        self._held = self._held.lstrip("\n")
        if not self._held:
            return "", ""
        self._step = self._think
        return self._step()

    def _think(self) -> tuple[str, str]:
        thought, mark, rest = self._held.partition(self._end)
        if not mark:
            kept = _tail(thought, self._end)
            said, self._held = thought[: len(thought) - kept], thought[len(thought) - kept :]
            return "", said
        self._held, self._step = rest, self._begin_answer
        answer, _ = self._step()
        return answer, thought.rstrip("\n")

    def _begin_answer(self) -> tuple[str, str]:
        self._held = self._held.lstrip("\n")
        if not self._held:
            return "", ""
        self._step = self._answer
        return self._step()

    def _answer(self) -> tuple[str, str]:
        said, self._held = self._held, ""
        return said, ""


def _tail(text: str, mark: str) -> int:
    """Characters at the end of `text` that line breaks and a part of `mark` make up."""
    part = next(n for n in range(min(len(text), len(mark) - 1), -1, -1) if text.endswith(mark[:n]))
    before = text[: len(text) - part]
    return part + len(before) - len(before.rstrip("\n"))
