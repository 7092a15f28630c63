"""An object file in this process, and where its symbols are."""

import ctypes
import struct
from pathlib import Path
from typing import Any

from ck.backend.llvm.build import binding
from ck.errors import InternalError, MachineError

# Of ELF's section headers: the type of the one that lists symbols, and the binding of those others may see.
_SYMBOL_TABLE = 2
_GLOBAL = 1


class LoadedObject:
    """The object file at `path`, linked; what it calls must be visible in the process already.

    Raises MachineError when it does not load: it is no object file, or calls what is not there.
    """

    def __init__(self, path: Path) -> None:
        llvm = binding()
        self._path = path
        data = path.read_bytes()
        try:
            symbols = _symbols(data)
            own = [name for name, is_defined in symbols.items() if is_defined]
            builder = llvm.JITLibraryBuilder().add_object_img(data).add_current_process()
            for name in own:
                builder = builder.export_symbol(name)
            self._linker = llvm.create_lljit_compiler(use_jit_link=True, suppress_errors=True)
            self._code: Any = builder.link(self._linker, "program")
        except (RuntimeError, struct.error, LookupError, ValueError) as error:
            raise MachineError(f"{path}: does not load: {_why(data, error)}; compile it again") from error
        self._addresses: dict[str, int] = {name: self._code[name] for name in own}

    def address(self, symbol: str) -> int:
        """Where a function or a constant lies. Raises InternalError when there is no such symbol."""
        if symbol not in self._addresses:
            raise InternalError(f"{self._path}: the program has no symbol {symbol}")
        return self._addresses[symbol]


def _why(data: bytes, error: Exception) -> str:
    """What is missing in this process, if something is, else the error's own first line."""
    try:
        needed = [name for name, is_defined in _symbols(data).items() if not is_defined]
    except (struct.error, LookupError, ValueError):
        return "this is no object file"
    process = ctypes.CDLL(None)
    missing = [name for name in needed if not hasattr(process, name)]
    return f"it calls {', '.join(missing)}, which nothing has" if missing else str(error).splitlines()[0]


def _symbols(data: bytes) -> dict[str, bool]:
    """The names in an ELF object that others may see, and whether they are defined in it.

    Raises ValueError, struct.error for what is no such object.
    """
    if data[:5] != b"\x7fELF\x02":
        raise ValueError("not an ELF file of 64 bits")
    (start,), (size, count) = struct.unpack_from("<Q", data, 40), struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + size * i) for i in range(count)]
    found: dict[str, bool] = {}
    for section in sections:
        if section[1] != _SYMBOL_TABLE:
            continue
        names = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name, info, _, where = struct.unpack_from("<IBBH", data, at)
            if info >> 4 == _GLOBAL:
                end = data.index(b"\0", names + name)
                found[data[names + name : end].decode()] = where != 0
    return found
