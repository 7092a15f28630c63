"""Which layers have a window, in the two numbers that `HyperParameters` keeps of it."""

from collections.abc import Sequence

WINDOW_PATTERNS = "a window in every layer from one on, or in all but every n-th"


def window_pattern(kinds: Sequence[bool]) -> tuple[int, int] | None:
    """window_pattern and window_first with which just the layers marked in `kinds` have a window.

    None when no two numbers say that.
    """
    layers = range(len(kinds))
    first = kinds.index(True) if True in kinds else len(kinds)
    if list(kinds) == [layer >= first for layer in layers]:
        return 0, first
    pattern = kinds.index(False) + 1
    return (pattern, 0) if list(kinds) == [(layer + 1) % pattern != 0 for layer in layers] else None
