"""The manifest of a scheduled module, numbered in the order of first use in its text.

So text that was printed and parsed has the same manifest.
"""

from collections.abc import Iterator

from xdsl.dialects import func
from xdsl.dialects.builtin import IndexType, IntegerType, ModuleOp, SymbolRefAttr
from xdsl.ir import Attribute

from ck.ir.op import type_bytes
from ck.ir.rt.ops import ArenaOp, CacheOp, RepeatOp, WeightOp
from ck.ir.rt.slots import Argument, CacheSlot, Manifest, WeightSlot
from ck.ir.types import CacheType, KvType, WeightType, is_buffer, shape


def manifest_of(module: ModuleOp) -> Manifest:
    """Collect the manifest of a module whose entries are scheduled."""
    manifest = Manifest()
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}
    weights: dict[str, Attribute] = {}
    caches: dict[str, Attribute] = {}
    for function in functions.values():
        if "ck.entry" not in function.attributes:
            continue
        manifest.entries[function.sym_name.data] = list(_arguments(function))
        for name, of in _names(function, functions):
            (caches if isinstance(of, CacheType) else weights).setdefault(name, of)
        for op in function.body.block.ops:
            if isinstance(op, ArenaOp):
                manifest.arena_bytes = max(manifest.arena_bytes, type_bytes(op.buffer.type))
    manifest.weights = [_weight(name, of) for name, of in weights.items()]
    manifest.caches = [_cache(name, of) for name, of in caches.items()]
    return manifest


def _names(function: func.FuncOp, functions: dict[str, func.FuncOp]) -> Iterator[tuple[str, Attribute]]:
    for op in function.body.block.ops:
        if isinstance(op, WeightOp | CacheOp):
            yield op.symbol_name, op.value.type
        if isinstance(op, RepeatOp):
            layer = functions[op.symbol_name]
            columns = layer.body.block.args[len(op.shared) :]
            for row in op.rows:
                for entry, column in zip(row, columns, strict=True):
                    if isinstance(entry, SymbolRefAttr):
                        yield entry.root_reference.data, column.type
            yield from _names(layer, functions)


def _weight(name: str, of: Attribute) -> WeightSlot:
    storage = of.storage.data if isinstance(of, WeightType) else "vector"
    return WeightSlot(name, shape(of), storage, type_bytes(of))


def _cache(name: str, of: Attribute) -> CacheSlot:
    assert isinstance(of, CacheType)
    kind, dtype = ("kv", of.dtype_name) if isinstance(of, KvType) else ("state", "f32")
    return CacheSlot(name, kind, of.get_shape(), dtype, of.n_bytes)


def _arguments(function: func.FuncOp) -> Iterator[Argument]:
    for arg in function.body.block.args:
        name = arg.name_hint or "arg"
        if isinstance(arg.type, IndexType):
            yield Argument(name, "index", ())
        else:
            assert is_buffer(arg.type)
            kind = "i32" if isinstance(arg.type.element_type, IntegerType) else "f32"
            yield Argument(name, kind, shape(arg.type))
