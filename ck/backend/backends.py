"""The backends by name: what makes a program of a scheduled module, and how that is loaded.

    name   source       object       made by
    c      program.c    program.so   the system's C compiler: ck/backend/c
    llvm   program.ll   program.o    llvmlite: ck/backend/llvm

Both make the same bits of the same module. Nothing of a backend is imported before it is used: a program
from the cache needs `load` alone.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar, Protocol

from ck.errors import InternalError, MachineError, UsageError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp


class Loaded(Protocol):
    """A program in this process."""

    def address(self, symbol: str) -> int:
        """Where a function or a constant lies. Raises InternalError when there is no such symbol."""
        ...


class Backend(ABC):
    """One way from a scheduled module to a program. A program calls libck_rt, which is loaded before it."""

    name: ClassVar[str]
    source_name: ClassVar[str]
    object_name: ClassVar[str]
    # The text of a program that holds nothing.
    nothing: ClassVar[str]

    @abstractmethod
    def emit(self, module: "ModuleOp") -> str:
        """The program's text. Raises InternalError for an op that is not scheduled."""

    @abstractmethod
    def build(self, source: Path, target: Path) -> None:
        """Compile the text in `source` to the file `target`. Raises MachineError in one line."""

    @abstractmethod
    def assembly(self, source: Path) -> str:
        """The machine's instructions for the text in `source`. Raises MachineError in one line."""

    @abstractmethod
    def identity(self) -> str:
        """Changes with whatever compiles the text, which is not run for it. Raises MachineError."""

    @abstractmethod
    def require(self) -> None:
        """Raises MachineError when nothing can be compiled here, as far as can be told without trying."""

    @abstractmethod
    def load(self, path: Path) -> Loaded:
        """The program in the file `path`, in this process. Raises MachineError when it does not load."""

    def works(self) -> bool:
        """Whether a program that holds nothing is made: if so, one that is not made is wrong itself."""
        with TemporaryDirectory(prefix="ck-works-") as folder:
            source, target = Path(folder, self.source_name), Path(folder, self.object_name)
            source.write_text(self.nothing)
            try:
                self.build(source, target)
                self.load(target)
            except MachineError:
                return False
        return True


class CBackend(Backend):
    """C text, the system's compiler."""

    name, source_name, object_name = "c", "program.c", "program.so"
    nothing = "const unsigned long ck_context_hash = 0;\n"

    def emit(self, module: "ModuleOp") -> str:
        from ck.backend.c.program import emit_program

        return emit_program(module)

    def build(self, source: Path, target: Path) -> None:
        from ck.backend.c.build import build_object

        build_object(source, target)

    def assembly(self, source: Path) -> str:
        from ck.backend.c.build import assembly

        return assembly(source)

    def identity(self) -> str:
        from ck.backend.c.build import compiler_identity

        return compiler_identity()

    def require(self) -> None:
        from ck.backend.c.build import compiler

        compiler()

    def load(self, path: Path) -> Loaded:
        from ck.backend.c.load import LoadedObject

        return LoadedObject(path)


class LlvmBackend(Backend):
    """LLVM IR text, llvmlite: no compiler runs."""

    name, source_name, object_name = "llvm", "program.ll", "program.o"
    nothing = "; nothing\n"

    def emit(self, module: "ModuleOp") -> str:
        from ck.backend.llvm.program import emit_program

        return emit_program(module)

    def build(self, source: Path, target: Path) -> None:
        from ck.backend.llvm.build import build_object

        build_object(source, target)

    def assembly(self, source: Path) -> str:
        from ck.backend.llvm.build import assembly

        return assembly(source.read_text())

    def identity(self) -> str:
        from ck.backend.llvm.build import identity

        return identity()

    def require(self) -> None:
        from ck.backend.llvm.build import binding

        binding()

    def load(self, path: Path) -> Loaded:
        from ck.backend.llvm.load import LoadedObject

        return LoadedObject(path)


_BACKENDS: dict[str, Backend] = {each.name: each for each in (CBackend(), LlvmBackend())}
BACKENDS = tuple(_BACKENDS)


def backend(name: str) -> Backend:
    """The backend of that name. Raises UsageError for another."""
    # A tuple takes whatever a caller gives, a dictionary not.
    if name not in BACKENDS:
        raise UsageError(f"backend: one of {', '.join(BACKENDS)} is required, found {name}")
    return _BACKENDS[name]


def backend_of(program: Path) -> Backend:
    """The backend whose programs are files of this name."""
    for each in _BACKENDS.values():
        if each.object_name == program.name:
            return each
    raise InternalError(f"{program}: no backend makes a program of this name")
