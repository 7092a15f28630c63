"""From a checked model to a module of `ck` ops: `@prefill`, `@decode` and `@head`, all from one builder.

@prefill(tokens [T], n, pos) -> hidden [T, D]      T the chunk's capacity, n live tokens from position pos on
@decode(tokens [1], n, pos) -> logits [1, V]
@head(hidden [R, D], n) -> logits [R, V]           the rows of a prefill whose logits are wanted

Training's module comes from the same builder (`build_training_graph`):

@train_step(tokens [N], targets [N], positions [N, 1], starts [N], n) -> nll [N, 1]    then differentiated
@eval(tokens [N], targets [N], positions [N, 1], starts [N], n) -> nll [N, 1]
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from numpy.typing import NDArray
from xdsl.builder import Builder
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    ArrayAttr,
    FunctionType,
    IndexType,
    ModuleOp,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    i32,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.rewriter import InsertPoint

from ck.errors import UnsupportedError
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.rope import attention_factor, frequencies
from ck.ir.op import CkOp
from ck.ir.ops.attention import HEAD_LANES, AttentionOp
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.causal_conv1d import CausalConv1dOp
from ck.ir.ops.cross_entropy import CrossEntropyOp
from ck.ir.ops.delta_rule import DeltaRuleOp
from ck.ir.ops.kv_append import KvAppendOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.packed_attention import PackedAttentionOp
from ck.ir.ops.packed_conv1d import PackedConv1dOp
from ck.ir.ops.packed_delta_rule import PackedDeltaRuleOp
from ck.ir.ops.rope_table import RopeTableOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import KvType, StateType, WeightType, tensor, trained

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

    def attend(self, q: SSAValue, k: SSAValue, v: SSAValue, layer: int) -> SSAValue:
        """Causal attention of `layer`: over its cache, or among the rows of a training batch."""
        heads, scale, window = self.hp.n_heads, self.hp.attention_scale, self.hp.layer_window(layer)
        n, starts = self.args["n"], self.args.get("starts")
        if starts is not None:
            properties = {"heads": heads, "kv_heads": self.hp.n_kv_heads, "scale": scale, "window": window}
            among = self.op(PackedAttentionOp, q, k, v, starts, hint="attn", **properties)
            among.lse.name_hint = "lse"
            return among.y
        pos = self.args["pos"]
        cache = self.op(KvAppendOp, self.cache(layer), k, v, n, pos, hint="kv").y
        return self.op(AttentionOp, q, cache, n, pos, heads=heads, scale=scale, window=window, hint="attn").y

    def _state(self, layer: int, name: str, sizes: tuple[int, ...]) -> SSAValue:
        """What a recurrent layer keeps under `name`."""
        of, name = StateType.of(*sizes), f"blk.{layer}.{name}"
        return self._once(name, lambda: self.builder.insert(CacheOp.of(name, of)).value)

    def convolve(self, x: SSAValue, w: SSAValue, layer: int) -> SSAValue:
        """The filters `w` over the columns of `x`: behind the rows before, or within a batch's documents."""
        starts = self.args.get("starts")
        if starts is not None:
            return self.op(PackedConv1dOp, x, w, starts, hint="conv").y
        state = self._state(layer, "conv", self.hp.state_shapes[0])
        return self.op(CausalConv1dOp, state, x, w, self.args["n"], self.args["pos"], hint="conv").y

    def recall(self, rows: tuple[SSAValue, SSAValue, SSAValue, SSAValue, SSAValue], layer: int) -> SSAValue:
        """The delta rule on q, k, v, g and beta: on the layer's state, or on that of each document.

        Value head p reads key head p mod G.
        """
        hp, starts = self.hp, self.args.get("starts")
        properties = {
            "heads": hp.n_state_heads,
            "key_heads": hp.n_state_keys,
            "order": "cyclic",
            "scale": hp.state_key_dim**-0.5,
        }
        if starts is not None:
            among = self.op(PackedDeltaRuleOp, *rows, starts, hint="recalled", **properties)
            among.states.name_hint = "states"
            return among.y
        state = self._state(layer, "state", hp.state_shapes[1])
        n, pos = self.args["n"], self.args["pos"]
        return self.op(DeltaRuleOp, state, *rows, n, pos, hint="recalled", **properties).y

    def head(self) -> SSAValue:
        """The head's weight [V, D]: the embedding where the model ties them."""
        return self.weight("token_embd.weight" if self.hp.tied else "output.weight")

    def rope_table(self, layer: int) -> SSAValue:
        """Cosines and sines for `layer`, shared by all layers of its kind."""
        name = "rope_freq.local" if self.hp.turns_apart(layer) else "rope_freq.global"
        if name not in self.constants:
            self.constants[name] = frequencies(self.hp, layer)
            self.storage[name] = tensor(self.hp.rope_dims // 2)

        def make() -> SSAValue:
            freq = self.weight(name)
            at = self.args["positions"] if "positions" in self.args else self.args["pos"]
            factor = attention_factor(self.hp, layer)
            scaled = {} if factor == 1 else {"factor": factor}
            op = self.op(RopeTableOp, freq, at, rows=self.rows, hint=name.replace(".", "_"), **scaled)
            return op.table

        return self._once(f"table of {name}", make)


@dataclass(frozen=True)
class BuiltGraph:
    """A module and the weights that are not in the file."""

    module: ModuleOp
    constants: dict[str, NDArray[Any]]


@dataclass
class _Builder:
    """Makes the functions of one module."""

    plan: Plan
    hp: HyperParameters
    architecture: Any
    storage: dict[str, Attribute]
    constants: dict[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])

    def function(
        self, name: str, rows: int, inputs: Mapping[str, Attribute], result: Callable[[Graph], SSAValue]
    ) -> func.FuncOp:
        """The entry `name`, which returns the value that `result` builds."""
        block = Block(arg_types=list(inputs.values()))
        for arg, hint in zip(block.args, inputs, strict=True):
            arg.name_hint = hint
        args = dict(zip(inputs, block.args, strict=True))
        g = Graph(
            self.plan, self.hp, self.storage, rows, Builder(InsertPoint.at_end(block)), args, self.constants
        )
        if "tokens" in args:
            # First of all, so that no layer differs from the others by making a table.
            for layer in self.hp.attention_layers:
                g.rope_table(layer)
        value = result(g)
        g.builder.insert(func.ReturnOp(value))
        of = FunctionType.from_lists(list(inputs.values()), [value.type])
        op = func.FuncOp(name, of, Region(block))
        op.attributes["ck.entry"] = UnitAttr()
        return op

    def hidden(self, g: Graph) -> SSAValue:
        hidden = self.architecture.hidden_states(g)
        hidden.name_hint = "hidden"
        return hidden

    def logits(self, g: Graph) -> SSAValue:
        hidden = g.args["hidden"] if "hidden" in g.args else self.hidden(g)
        return g.op(LinearOp, hidden, g.head(), hint="logits").y

    def nll(self, g: Graph) -> SSAValue:
        loss = g.op(CrossEntropyOp, self.hidden(g), g.head(), g.args["targets"], hint="nll")
        loss.logits.name_hint = "logits"
        return loss.nll


def build_graph(
    hp: HyperParameters,
    architecture: Any,
    storage: dict[str, Attribute],
    plan: Plan,
) -> BuiltGraph:
    """The module of a model: `storage` gives each tensor its type, `architecture` is the family's module.

    Raises UnsupportedError for a head that no kernel attends with.
    """
    if hp.head_dim % HEAD_LANES:
        raise UnsupportedError(
            f"{hp.arch}: heads whose width is a multiple of {HEAD_LANES} are required to run a model, "
            f"found {hp.head_dim}"
        )
    b = _Builder(plan, hp, architecture, dict(storage))
    head = {"hidden": tensor(HEAD_ROWS, hp.d_model), "n": IndexType()}
    functions = [
        b.function("prefill", plan.chunk, _step(plan.chunk), b.hidden),
        b.function("decode", 1, _step(1), b.logits),
        b.function("head", HEAD_ROWS, head, b.logits),
    ]
    return BuiltGraph(ModuleOp(list[Operation](functions)), b.constants)


def build_training_graph(
    hp: HyperParameters, architecture: Any, shapes: Mapping[str, tuple[int, ...]], rows: int
) -> BuiltGraph:
    """The module that trains every tensor of `shapes` on up to `rows` rows at a time."""
    storage = {name: trained(*shape) for name, shape in shapes.items()}
    b = _Builder(Plan(rows, rows, "f32"), hp, architecture, storage)
    inputs = {
        "tokens": TensorType(i32, [rows]),
        "targets": TensorType(i32, [rows]),
        "positions": tensor(rows, 1),
        "starts": TensorType(i32, [rows]),
        "n": IndexType(),
    }
    step, evaluation = (b.function(name, rows, inputs, b.nll) for name in ("train_step", "eval"))
    step.attributes["ck.trainable"] = ArrayAttr([SymbolRefAttr(name) for name in shapes])
    return BuiltGraph(ModuleOp(list[Operation]([step, evaluation])), b.constants)


def _step(rows: int) -> Mapping[str, Attribute]:
    """Arguments of an entry that takes up to `rows` tokens."""
    return {"tokens": TensorType(i32, [rows]), "n": IndexType(), "pos": IndexType()}


def weight_type(shape: tuple[int, ...], storage: str) -> Attribute:
    """The `ck` type of a tensor of the file: vectors are f32 tensors, matrices stored weights."""
    return tensor(*shape) if len(shape) == 1 else WeightType.of(shape, storage)
