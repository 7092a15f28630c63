"""Names of values for the emitters: what the IR's hints ask for, each told apart from the others in sight."""

import re
from collections.abc import Iterable

from xdsl.ir import SSAValue

_SUFFIXES = re.compile(r"(_\d+)+$")


def hint_of(value: SSAValue) -> str:
    """The name hint of a value, empty without one.

    Trailing `_digits` go: the IR's printer adds them, so that only without them does IR that was printed and
    parsed name its values as it did before.
    """
    return _SUFFIXES.sub("", value.name_hint or "")


class Names:
    """Identifiers in nested scopes: a name is never one that an enclosing scope already uses."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self._scopes: list[set[str]] = [set(reserved)]
        # How far each base has been counted since a scope was last left.
        self._counts: dict[str, int] = {}

    def push(self) -> None:
        self._scopes.append(set())

    def pop(self) -> None:
        self._scopes.pop()
        self._counts.clear()

    def fresh(self, base: str) -> str:
        """`base`, or `base_1`, `base_2`, … whichever is free first."""
        count = self._counts.get(base, 0)
        name = f"{base}_{count}" if count else base
        while any(name in scope for scope in self._scopes):
            count += 1
            name = f"{base}_{count}"
        self._counts[base] = count
        self._scopes[-1].add(name)
        return name


def comment(name: str) -> str:
    """`name` as text that cannot end a line comment or continue it."""
    return "".join(char if char.isalnum() or char in "._-" else "?" for char in name)
