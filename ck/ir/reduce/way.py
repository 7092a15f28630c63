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
from xdsl.ir import Block, Operation
from xdsl.traits import IsTerminator
from xdsl.transforms.dead_code_elimination import is_trivially_dead

from ck.ir.op import Named, type_bytes
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.fused import FusedOp, YieldOp
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
            n_parts += 1 + len(values) + len(op.operands) + len(op.attributes) + _n_rows(op)
            n_bytes += sum(type_bytes(value.type) for value in values)
        return Size(n_ops, n_parts, n_bytes)


def _n_rows(op: Operation) -> int:
    return len(op.rows) if isinstance(op, rt.RepeatOp) else 0


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


def missing(module: ModuleOp) -> set[str]:
    """Names of functions that are called and not there."""
    return called(module) - {op.sym_name.data for op in module.ops if isinstance(op, func.FuncOp)}


def symbols(module: ModuleOp) -> set[str]:
    """Names of weights and caches, and of what is called."""
    return {op.symbol_name for op in module.walk() if isinstance(op, Named)}


def erase_dead(module: ModuleOp) -> bool:
    """Erase what nobody reads and what does nothing else; whether there was any."""
    found = False
    for op in reversed(list(module.walk())):
        if isinstance(op, FusedOp):
            found |= trim(op)
        if op.parent is not None and is_trivially_dead(op):
            op.detach()
            op.erase()
            found = True
    return found


def trim(fused: FusedOp) -> bool:
    """Drop results that nobody reads, but for one, and inputs that the region does not; whether any."""
    kept = [n for n, result in enumerate(fused.outputs) if result.uses] or [0]
    read = [n for n, arg in enumerate(fused.block.args) if arg.uses]
    if (len(kept), len(read)) == (len(fused.outputs), len(fused.inputs)):
        return False
    end = fused.block.last_op
    assert isinstance(end, YieldOp)
    end.operands = [end.values[n] for n in kept]
    for arg in [arg for arg in fused.block.args if not arg.uses]:
        fused.block.erase_arg(arg)
    made = FusedOp.create(
        operands=[fused.inputs[n] for n in read],
        result_types=[fused.outputs[n].type for n in kept],
        attributes=fused.attributes,
        regions=[fused.detach_region(fused.body)],
    )
    replace_op(fused, made, kept)
    return True


def replace_op(old: Operation, new: Operation, kept: Sequence[int]) -> None:
    """Put `new` where `old` stands: its results are those of `old` at `kept`."""
    block = old.parent
    assert isinstance(block, Block)
    block.insert_op_before(new, old)
    for index, result in zip(kept, new.results, strict=True):
        result.name_hint = old.results[index].name_hint
        old.results[index].replace_all_uses_with(result)
    old.detach()
    old.erase()
