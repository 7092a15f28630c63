"""A stored program's text, file and instructions: its own, or another backend's, made of its scheduled IR."""

import tempfile
from pathlib import Path

from ck.backend.backends import Backend, backend
from ck.runtime.store import StoredProgram


def source(program: StoredProgram, name: str | None = None) -> str:
    """The text that the backend `name` compiles; default: the one that made the program.

    Raises UsageError for no backend's name.
    """
    made_by = program.backend if name is None else backend(name)
    return program.source() if made_by is program.backend else _emit(program, made_by)


def compiled(program: StoredProgram, name: str) -> bytes:
    """The file that the backend `name` makes. Raises MachineError when it cannot here."""
    made_by = backend(name)
    if made_by is program.backend:
        return program.compiled.read_bytes()
    with tempfile.TemporaryDirectory(prefix="ck-compile-") as folder:
        text, target = Path(folder, made_by.source_name), Path(folder, made_by.object_name)
        text.write_text(_emit(program, made_by))
        made_by.build(text, target)
        return target.read_bytes()


def assembly(program: StoredProgram) -> str:
    """The program's instructions, as its backend writes them. Raises MachineError when it cannot here."""
    made_by = program.backend
    return made_by.assembly(program.directory / "build" / made_by.source_name)


def _emit(program: StoredProgram, made_by: Backend) -> str:
    from xdsl.parser import Parser

    from ck.ir.dialects import context

    return made_by.emit(Parser(context(), program.ir("scheduled")).parse_module())
