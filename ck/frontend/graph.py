"""From a checked model to a module of `ck` ops: `@prefill`, `@decode` and `@head`, all from one builder.

@prefill(tokens [T], n, pos) -> hidden [T, D]      T the chunk's capacity, n live tokens from position pos on
@decode(tokens [1], n, pos) -> logits [1, V]
@head(hidden [R, D], n) -> logits [R, V]           the rows of a prefill whose logits are wanted
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from xdsl.builder import Builder
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, IndexType, ModuleOp, TensorType, UnitAttr, i32
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.rewriter import InsertPoint

from ck.frontend.hyperparameters import HyperParameters
from ck.ir.op import CkOp
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.rope_table import RopeTableOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import KvType, WeightType, tensor

Op = TypeVar("Op", bound=CkOp)
KV_BLOCK = 64
HEAD_ROWS = 16


@dataclass(frozen=True)
class Plan:
    """What a compilation fixes: capacities and the type of the cache.

    chunk        rows of a prefill step at most
    context_len  positions a sequence may have
    kv           f16 or f32
    """

    chunk: int
    context_len: int
    kv: str


def round_up(n: int, to: int) -> int:
    """The smallest multiple of `to` that is at least `n`."""
    return -(-n // to) * to


@dataclass
class Graph:
    """One function in the making. `storage` gives each tensor's type; `constants` are computed weights."""

    plan: Plan
    hp: HyperParameters
    storage: dict[str, Attribute]
    rows: int
    builder: Builder
    args: Mapping[str, SSAValue]
    constants: dict[str, NDArray[Any]]
    _known: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])

    def op(self, kind: type[Op], *operands: SSAValue, hint: str | None = None, **properties: Any) -> Op:
        """Append an op; its result types are inferred."""
        return self.builder.insert(kind.build_op(*operands, hint=hint, **properties))

    def _once(self, name: str, make: Callable[[], SSAValue]) -> SSAValue:
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    def weight(self, name: str) -> SSAValue:
        """The weight called `name`, of the type in which it is stored."""
        return self._once(name, lambda: self.builder.insert(WeightOp.of(name, self.storage[name])).value)

    def cache(self, layer: int) -> SSAValue:
        """The KV cache of `layer`: the whole context, or a ring of window + chunk positions."""
        window = self.hp.layer_window(layer)
        positions = min(self.plan.context_len, window + self.plan.chunk) if window else self.plan.context_len
        of = KvType.of(self.hp.n_kv_heads, round_up(positions, KV_BLOCK), self.hp.head_dim, self.plan.kv)
        name = f"blk.{layer}.kv"
        return self._once(name, lambda: self.builder.insert(CacheOp.of(name, of)).value)

    def rope_table(self, layer: int) -> SSAValue:
        """Cosines and sines for `layer`, shared by all layers of its kind."""
        base, factor = self.hp.layer_rope(layer)
        name = "rope_freq.local" if self.hp.is_local(layer) else "rope_freq.global"
        if name not in self.constants:
            exponent = np.arange(0, self.hp.rope_dims, 2, dtype=np.float32) / np.float32(self.hp.rope_dims)
            self.constants[name] = (1.0 / np.float32(base) ** exponent / factor).astype(np.float32)
            self.storage[name] = tensor(self.hp.rope_dims // 2)

        def make() -> SSAValue:
            freq = self.weight(name)
            op = self.op(RopeTableOp, freq, self.args["pos"], rows=self.rows, hint=name.replace(".", "_"))
            return op.table

        return self._once(f"table of {name}", make)


@dataclass(frozen=True)
class BuiltGraph:
    """A module and the weights that are not in the file."""

    module: ModuleOp
    constants: dict[str, NDArray[Any]]


def build_graph(
    hp: HyperParameters,
    architecture: Any,
    storage: dict[str, Attribute],
    plan: Plan,
) -> BuiltGraph:
    """The module of a model: `storage` gives each tensor its type, `architecture` is the family's module."""
    constants: dict[str, NDArray[Any]] = {}
    storage = dict(storage)

    def function(name: str, rows: int, inputs: Mapping[str, Attribute], result: str) -> func.FuncOp:
        block = Block(arg_types=list(inputs.values()))
        for arg, hint in zip(block.args, inputs, strict=True):
            arg.name_hint = hint
        args = dict(zip(inputs, block.args, strict=True))
        g = Graph(plan, hp, storage, rows, Builder(InsertPoint.at_end(block)), args, constants)
        if "pos" in args:
            # First of all, so that no layer differs from the others by making a table.
            for layer in range(hp.n_layers):
                g.rope_table(layer)
        hidden = args["hidden"] if "hidden" in args else architecture.hidden_states(g)
        value = hidden if result == "hidden" else architecture.logits(g, hidden)
        value.name_hint = result
        g.builder.insert(func.ReturnOp(value))
        of = FunctionType.from_lists(list(inputs.values()), [value.type])
        op = func.FuncOp(name, of, Region(block))
        op.attributes["ck.entry"] = UnitAttr()
        return op

    head = {"hidden": tensor(HEAD_ROWS, hp.d_model), "n": IndexType()}
    return BuiltGraph(
        ModuleOp(
            [
                function("prefill", plan.chunk, _step(plan.chunk), "hidden"),
                function("decode", 1, _step(1), "logits"),
                function("head", HEAD_ROWS, head, "logits"),
            ]
        ),
        constants,
    )


def _step(rows: int) -> Mapping[str, Attribute]:
    """Arguments of an entry that takes up to `rows` tokens."""
    return {"tokens": TensorType(i32, [rows]), "n": IndexType(), "pos": IndexType()}


def weight_type(shape: tuple[int, ...], storage: str) -> Attribute:
    """The `ck` type of a tensor of the file: vectors are f32 tensors, matrices stored weights."""
    return tensor(*shape) if len(shape) == 1 else WeightType.of(shape, storage)
