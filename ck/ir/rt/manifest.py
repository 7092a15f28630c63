"""What a scheduled module needs from whoever runs it: weights, caches, arena, entry arguments, in a fixed order.

The order is that of first use in the text, so text that was printed and parsed has the same manifest. Plain data,
stored beside the compiled program: a program from the cache is loaded without its IR.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from xdsl.dialects import func
from xdsl.dialects.builtin import IndexType, IntegerType, MemRefType, ModuleOp, SymbolRefAttr
from xdsl.ir import Attribute

from ck.ir.op import type_bytes
from ck.ir.rt.ops import ArenaOp, CacheOp, RepeatOp, WeightOp
from ck.ir.types import KvType, WeightType, shape


@dataclass(frozen=True)
class WeightSlot:
    """A weight in memory: `storage` of a packed matrix [out, in], or "vector" for f32 as they are."""

    name: str
    shape: tuple[int, ...]
    storage: str
    n_bytes: int


@dataclass(frozen=True)
class CacheSlot:
    """A KV cache in memory."""

    name: str
    kv_heads: int
    capacity: int
    head_dim: int
    dtype: str
    n_bytes: int


@dataclass(frozen=True)
class Argument:
    """An argument of an entry: `kind` is i32, f32 (a buffer of `shape`) or index."""

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass
class Manifest:
    """Everything in the order of its number."""

    weights: list[WeightSlot] = field(default_factory=list[WeightSlot])
    caches: list[CacheSlot] = field(default_factory=list[CacheSlot])
    arena_bytes: int = 0
    entries: dict[str, list[Argument]] = field(default_factory=dict[str, list[Argument]])

    def to_json(self) -> dict[str, Any]:
        """As plain data for `from_json`."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Manifest":
        """The manifest that `to_json` wrote. Raises KeyError, TypeError for anything else."""
        return Manifest(
            [WeightSlot(**{**slot, "shape": tuple(slot["shape"])}) for slot in data["weights"]],
            [CacheSlot(**slot) for slot in data["caches"]],
            data["arena_bytes"],
            {
                entry: [Argument(**{**arg, "shape": tuple(arg["shape"])}) for arg in args]
                for entry, args in data["entries"].items()
            },
        )

    def fields(self) -> list[Argument]:
        """Arguments of all entries, each name once: the tail of the context."""
        return list({arg.name: arg for args in self.entries.values() for arg in args}.values())


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
            (caches if isinstance(of, KvType) else weights).setdefault(name, of)
        for op in function.body.block.ops:
            if isinstance(op, ArenaOp):
                manifest.arena_bytes = max(manifest.arena_bytes, type_bytes(op.buffer.type))
    manifest.weights = [_weight(name, of) for name, of in weights.items()]
    manifest.caches = [_cache(name, of) for name, of in caches.items()]
    return manifest


def _names(
    function: func.FuncOp, functions: dict[str, func.FuncOp]
) -> Iterator[tuple[str, Attribute]]:
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
    assert isinstance(of, KvType)
    return CacheSlot(name, *shape(of), of.dtype_name, of.n_bytes)


def _arguments(function: func.FuncOp) -> Iterator[Argument]:
    for arg in function.body.block.args:
        name = arg.name_hint or "arg"
        if isinstance(arg.type, IndexType):
            yield Argument(name, "index", ())
        else:
            assert isinstance(arg.type, MemRefType)
            kind = "i32" if isinstance(arg.type.element_type, IntegerType) else "f32"
            yield Argument(name, kind, shape(arg.type))

