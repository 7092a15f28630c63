"""The functions of a module, as passes want them, and what a training module says of itself."""

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, FloatAttr, ModuleOp, StringAttr, SymbolRefAttr
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from ck.ir.types import shape


def bodies(module: ModuleOp) -> list[Block]:
    """The block of every function that has one, in order."""
    return [op.body.block for op in module.ops if isinstance(op, func.FuncOp) and op.body.blocks]


def rows_per_token(op: Operation, value: SSAValue) -> int:
    """Rows of `value` a token: its rows over the capacity, which is that of the function's first argument.

    1 in a block that is no function's. Raises VerifyException when the rows are not the tokens'.
    """
    block = op.parent_block()
    if block is None or not isinstance(block.parent_op(), func.FuncOp) or not block.args:
        return 1
    rows, capacity = shape(value.type)[0], shape(block.args[0].type)[0]
    if rows % capacity:
        raise VerifyException(f"{op.name}: {rows} rows are no multiple of the {capacity} tokens")
    return rows // capacity


class TrainingOptions(dict[str, Attribute]):
    """What a training module's `ck.training` says: choices that passes make when they are given none."""

    def text(self, name: str, default: str) -> str:
        """The text under `name`."""
        found = self.get(name)
        return found.data if isinstance(found, StringAttr) else default

    def number(self, name: str, default: float) -> float:
        """The number under `name`."""
        found = self.get(name)
        return float(found.value.data) if isinstance(found, FloatAttr) else default


def training_options(module: ModuleOp) -> TrainingOptions:
    """The module's `ck.training`; empty where it has none."""
    found = module.attributes.get("ck.training")
    return TrainingOptions(found.data) if isinstance(found, DictionaryAttr) else TrainingOptions()


def symbol_names(of: Attribute | None) -> list[str]:
    """The names in a list of symbols; none where there is no list."""
    names: list[str] = []
    for entry in of.data if isa(of, ArrayAttr[Attribute]) else ():
        if isinstance(entry, SymbolRefAttr):
            names.append(entry.root_reference.data)
    return names
