"""What a way to shrink a module promises, and what all of them ask of it.

A way lists what could go as positions, which mean the same op in a module and in its clone, and takes some of
it out of a clone. It need not look whether the result verifies or is smaller: ck/ir/reduce/search.py does.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.traits import IsTerminator
from xdsl.transforms.dead_code_elimination import is_trivially_dead

from ck.ir.functions import symbol_names
from ck.ir.op import Named, type_bytes
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.weight import WeightOp
from ck.ir.rt import ops as rt

Target: TypeAlias = tuple[int, ...]

LEAVES = (WeightOp, CacheOp, rt.WeightOp, rt.CacheOp, rt.ArenaOp, rt.AllocOp, rt.ViewOp, rt.ViewAtOp)


class Way(ABC):
    """One kind of edit. Where `by_chunks` is false its targets are alternatives, tried one at a time."""

    name: str
    by_chunks: bool = True

    @abstractmethod
    def targets(self, module: ModuleOp) -> Sequence[Target]:
        """What could go, what is best tried first in front."""

    @abstractmethod
    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        """Take what can go of `chosen` out of `module`. Raises VerifyException where a type cannot be."""


@dataclass(frozen=True, order=True)
class Size:
    """How much there is to read: ops that do something, then all other parts, then the values' bytes."""

    n_ops: int
    n_parts: int
    n_bytes: int

    def __str__(self) -> str:
        return f"{self.n_ops} ops, {self.n_parts} other parts, {self.n_bytes} bytes"

    @staticmethod
    def of(module: ModuleOp) -> "Size":
        """The size of `module`."""
        n_ops = n_parts = n_bytes = 0
        for op in module.walk():
            blocks = [block for region in op.regions for block in region.blocks]
            values = [*op.results, *(arg for block in blocks for arg in block.args)]
            n_ops += does_something(op)
            n_parts += 1 + len(values) + len(op.operands) + _n_entries(op)
            # A size that is only known at run time counts for nothing.
            n_bytes += sum(max(0, type_bytes(value.type)) for value in values)
        return Size(n_ops, n_parts, n_bytes)


def _n_entries(op: Operation) -> int:
    """Attributes, names in their lists, and rows of a table."""
    n_names = sum(len(symbol_names(value)) for value in op.attributes.values())
    return len(op.attributes) + n_names + (len(op.rows) if isinstance(op, rt.RepeatOp) else 0)


def does_something(op: Operation) -> bool:
    """Whether `op` computes: no name, no frame, no end of a block."""
    return not isinstance(op, (ModuleOp, func.FuncOp, *LEAVES)) and not is_end(op)


def is_end(op: Operation) -> bool:
    """Whether `op` ends its block."""
    return op.has_trait(IsTerminator, value_if_unregistered=False)


def functions(module: ModuleOp) -> list[func.FuncOp]:
    """The functions that have a body, in order."""
    return [op for op in module.ops if isinstance(op, func.FuncOp) and op.body.blocks]


def called(module: ModuleOp) -> set[str]:
    """Names of functions that ops of the module call."""
    found = {op.symbol_name for op in module.walk() if isinstance(op, rt.LaunchOp | rt.RepeatOp)}
    return found | {op.callee.string_value() for op in module.walk() if isinstance(op, func.CallOp)}


def symbols(module: ModuleOp) -> set[str]:
    """Names of weights and caches, and of what is called."""
    return {op.symbol_name for op in module.walk() if isinstance(op, Named)}


def erase_dead(module: ModuleOp) -> bool:
    """Erase what nobody reads and what does nothing else; whether there was any."""
    found = False
    for op in reversed(list(module.walk())):
        if op.parent is not None and is_trivially_dead(op):
            op.detach()
            op.erase()
            found = True
    return found
