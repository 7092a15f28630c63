"""A shared object in this process, and where its symbols are."""

import ctypes
from pathlib import Path

from ck.backend.c.build import CompilerError, called
from ck.errors import InternalError


class LoadedObject:
    """The shared object at `path`; what it calls must be visible in the process already.

    Raises CompilerError when it does not load, or is no program of ours.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            why = str(error).removeprefix(f"{path}: ")
            raise CompilerError(f"{called()} made a program that does not load: {why}") from error
        if not hasattr(self._library, "ck_context_hash"):
            raise CompilerError(f"{called()} made another program than asked: it has no ck_context_hash")

    def address(self, symbol: str) -> int:
        """Where a function or a constant lies. Raises InternalError when there is no such symbol."""
        try:
            found = ctypes.cast(self._library[symbol], ctypes.c_void_p).value
        except AttributeError:
            found = None
        if found is None:
            raise InternalError(f"{self._path}: the program has no symbol {symbol}")
        return found
