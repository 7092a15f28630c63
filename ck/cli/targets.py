"""What `ck-opt -t` writes besides IR: a backend's text, of a program or of single functions."""

from abc import abstractmethod
from typing import IO

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.target import Target

from ck.backend.c.program import emit_program as c_program
from ck.backend.c.text import emit_module as c_module
from ck.backend.llvm.program import emit_program as llvm_program
from ck.backend.llvm.text import emit_module as llvm_module
from ck.passes.pipeline import remaining, run_pass


def has_entry(module: ModuleOp) -> bool:
    """Whether a module is a program, at whatever stage."""
    functions = (op for op in module.ops if isinstance(op, func.FuncOp))
    return any("ck.entry" in function.attributes for function in functions)


class BackendTarget(Target):
    """A program goes through the passes it has not seen yet; other modules are taken as they are."""

    def emit(self, ctx: Context, module: ModuleOp, output: IO[str]) -> None:
        if not has_entry(module):
            output.write(self.functions(module))
            return
        for kind in remaining(module):
            run_pass(ctx, module, kind)
            module.verify()
        output.write(self.program(module))

    @abstractmethod
    def program(self, module: ModuleOp) -> str:
        """The text of a scheduled module."""

    @abstractmethod
    def functions(self, module: ModuleOp) -> str:
        """The text of a module's functions."""


class CTarget(BackendTarget):
    """C text."""

    name = "c"

    def program(self, module: ModuleOp) -> str:
        return c_program(module)

    def functions(self, module: ModuleOp) -> str:
        return c_module(module)


class LlvmTarget(BackendTarget):
    """LLVM IR."""

    name = "llvm"

    def program(self, module: ModuleOp) -> str:
        return llvm_program(module)

    def functions(self, module: ModuleOp) -> str:
        return llvm_module(module)


TARGETS: dict[str, type[Target]] = {"c": CTarget, "llvm": LlvmTarget}
