"""A scheduled module as the emitters of programs read it: its functions by kind, the numbers of its slots."""

from collections.abc import Sequence

from xdsl.dialects import func
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, SymbolRefAttr
from xdsl.ir import Attribute, SSAValue

from ck.errors import InternalError
from ck.ir.rt.manifest import manifest_of
from ck.ir.rt.ops import RepeatOp
from ck.ir.types import CacheType


class Scheduled:
    """Row kernels, layers and entries of a module; weights and caches numbered in the manifest's order."""

    def __init__(self, module: ModuleOp) -> None:
        self.functions = [op for op in module.ops if isinstance(op, func.FuncOp)]
        self.by_name = {function.sym_name.data: function for function in self.functions}
        self.manifest = manifest_of(module)
        self.weight_numbers = {slot.name: n for n, slot in enumerate(self.manifest.weights)}
        self.cache_numbers = {slot.name: n for n, slot in enumerate(self.manifest.caches)}
        self.entries = [f for f in self.functions if "ck.entry" in f.attributes]
        self.layers = [f for f in self.functions if "ck.layer" in f.attributes]
        self.rows = [f for f in self.functions if f not in self.entries and f not in self.layers]

    def split_arguments(self, layer: func.FuncOp) -> tuple[Sequence[SSAValue], Sequence[SSAValue]]:
        """The arguments of a layer that every call shares, and those that are a row's of its table."""
        name = layer.sym_name.data
        for caller in self.functions:
            for op in caller.body.block.ops if caller.body.blocks else ():
                if isinstance(op, RepeatOp) and op.symbol_name == name:
                    count = len(op.shared)
                    return layer.body.block.args[:count], layer.body.block.args[count:]
        raise InternalError(f"layer @{name} is never called")

    def entry(self, entry: Attribute, of: Attribute) -> int:
        """An entry of a layer's table: an offset in bytes, or the number of a weight or a cache."""
        if isinstance(entry, IntegerAttr):
            return entry.value.data
        assert isinstance(entry, SymbolRefAttr)
        numbers = self.cache_numbers if is_cache(of) else self.weight_numbers
        return numbers[entry.root_reference.data]


def row_name(row: Sequence[Attribute]) -> str:
    """What a row of a table is told by: its first weight."""
    return next((entry.root_reference.data for entry in row if isinstance(entry, SymbolRefAttr)), "")


def is_cache(of: Attribute) -> bool:
    """Whether a value of type `of` is a cache's."""
    return isinstance(of, CacheType)
