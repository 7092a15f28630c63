"""The functions of a module, as passes want them."""

from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block


def bodies(module: ModuleOp) -> list[Block]:
    """The block of every function that has one, in order."""
    return [op.body.block for op in module.ops if isinstance(op, func.FuncOp) and op.body.blocks]
