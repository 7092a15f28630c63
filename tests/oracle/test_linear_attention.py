"""A layer of gated linear attention made of ops is transformers' own: rows in any chunks, and gradients."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet
from xdsl.builder import Builder, InsertPoint
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IndexType, ModuleOp, SymbolRefAttr, UnitAttr
from xdsl.ir import Attribute, Block, Region, SSAValue

from ck.backend.backends import BACKENDS
from ck.ir.op import CkOp, attr
from ck.ir.ops.bias_add import BiasAddOp
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.causal_conv1d import CausalConv1dOp
from ck.ir.ops.delta_rule import DeltaRuleOp
from ck.ir.ops.gain import GainOp
from ck.ir.ops.l2_norm import L2NormOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.packed_conv1d import PackedConv1dOp
from ck.ir.ops.packed_delta_rule import PackedDeltaRuleOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.sigmoid import SigmoidOp
from ck.ir.ops.silu import SiluOp
from ck.ir.ops.softplus import SoftplusOp
from ck.ir.ops.split import SplitOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import StateType, WeightType, tensor, trained
from tests.graphs.runs import Built, Compiled, stages
from tests.ops.case import Operand, ids
from tests.ops.packed_attention import starts

WIDTH, KEY_HEADS, HEADS, KEY_DIM, VALUE_DIM, TAPS, EPS = 40, 2, 6, 20, 24, 4, 1e-6
KEYS, VALUES = KEY_HEADS * KEY_DIM, HEADS * VALUE_DIM
STATES = {"conv": StateType.of(TAPS - 1, 2 * KEYS + VALUES), "rule": StateType.of(HEADS, KEY_DIM, VALUE_DIM)}
CHUNK = 96
N_TOKENS = 200
# Documents of one row, of some, of more than a border.
DOCUMENTS = (70, 1, 129)
MAX_ABS = 1e-4
# Of a gradient's norm, and of that of all gradients: those of A_log and dt_bias are sums of decays' slopes
# that cancel, a thousand times smaller than others. To f64 ck is 4 times as near there as PyTorch's f32.
RELATIVE, FLOOR = 1e-5, 1e-6


@cache
def peer() -> torch.nn.Sequential:
    """transformers' layer behind a product, so that the gradient of its rows counts as well."""
    torch.manual_seed(5)
    config = Qwen3_5TextConfig(
        hidden_size=WIDTH, linear_num_key_heads=KEY_HEADS, linear_num_value_heads=HEADS,
        linear_key_head_dim=KEY_DIM, linear_value_head_dim=VALUE_DIM, linear_conv_kernel_dim=TAPS,
        rms_norm_eps=EPS, num_hidden_layers=1, layer_types=["linear_attention"],
    )  # fmt: skip
    before = torch.nn.Linear(WIDTH, WIDTH, bias=False)
    made = torch.nn.Sequential(OrderedDict(before=before, layer=Qwen3_5GatedDeltaNet(config, 0)))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.endswith(("dt_bias", "norm.weight")):
                weight.add_(0.3 * torch.randn_like(weight))
    return made


def numbers() -> dict[str, np.ndarray]:
    """Its weights by the last word of their names."""
    return {
        name.removesuffix(".weight").split(".")[-1]: flat(weight.detach())
        for name, weight in peer().named_parameters()
    }


def flat(weight: torch.Tensor) -> np.ndarray:
    """A weight as ops have it: filters [C, I] are [C, 1, I] in torch."""
    return (weight[:, 0] if weight.dim() == 3 else weight).numpy().copy()


@dataclass
class Layer:
    """The layer in the making, for up to `rows` rows; `args` has n and pos, or n and starts."""

    rows: int
    builder: Builder
    args: Mapping[str, SSAValue]
    of: Callable[..., Attribute]
    known: dict[str, SSAValue] = field(default_factory=dict)

    def op(self, kind: type[CkOp], *operands: SSAValue, **properties: Any) -> SSAValue:
        made = self.builder.insert(kind.build_op(*operands, **properties))
        made.results[0].name_hint = f"v{len(list(self.builder.insertion_point.block.ops))}"
        return made.results[0]

    def weight(self, name: str) -> SSAValue:
        if name not in self.known:
            leaf = self.builder.insert(WeightOp.of(name, self.of(*numbers()[name].shape)))
            self.known[name] = leaf.value
        return self.known[name]

    def product(self, x: SSAValue, name: str) -> SSAValue:
        return self.op(LinearOp, x, self.weight(name))

    def view(self, x: SSAValue, per_token: int, columns: int) -> SSAValue:
        return self.builder.insert(ReshapeOp.to(x, self.rows * per_token, columns)).y

    def state(self, name: str) -> SSAValue:
        return self.builder.insert(CacheOp.of(name, STATES[name])).value

    def convolved(self, x: SSAValue) -> SSAValue:
        if "starts" in self.args:
            return self.op(PackedConv1dOp, x, self.weight("conv1d"), self.args["starts"])
        where = self.args["n"], self.args["pos"]
        return self.op(CausalConv1dOp, self.state("conv"), x, self.weight("conv1d"), *where)

    def recalled(self, *rows: SSAValue) -> SSAValue:
        form = {"heads": HEADS, "key_heads": KEY_HEADS, "order": "grouped", "scale": KEY_DIM**-0.5}
        if "starts" in self.args:
            return self.op(PackedDeltaRuleOp, *rows, self.args["starts"], **form)
        return self.op(DeltaRuleOp, self.state("rule"), *rows, self.args["n"], self.args["pos"], **form)

    def unit(self, x: SSAValue) -> SSAValue:
        heads = self.op(L2NormOp, self.view(x, KEY_HEADS, KEY_DIM), eps=1e-6)
        return self.view(heads, 1, KEYS)

    def build(self, x: SSAValue) -> SSAValue:
        x = self.product(x, "before")
        mixed = self.op(SiluOp, self.convolved(self.product(x, "in_proj_qkv")))
        split = self.builder.insert(SplitOp.build_op(mixed, sizes=(KEYS, KEYS, VALUES)))
        q, k, v = split.parts
        steps = self.op(BiasAddOp, self.product(x, "in_proj_a"), self.weight("dt_bias"))
        g = self.op(GainOp, self.op(SoftplusOp, steps), self.weight("A_log"), form="neg_exp")
        beta = self.op(SigmoidOp, self.product(x, "in_proj_b"))
        y = self.view(self.recalled(self.unit(q), self.unit(k), v, g, beta), HEADS, VALUE_DIM)
        gate = self.op(SiluOp, self.view(self.product(x, "in_proj_z"), HEADS, VALUE_DIM))
        gated = self.op(MulOp, self.op(RmsNormOp, y, self.weight("norm"), eps=EPS), gate)
        return self.product(self.view(gated, 1, VALUES), "out_proj")


def entry(name: str, rows: int, inputs: Mapping[str, Attribute], of: Callable[..., Attribute]) -> func.FuncOp:
    """A function that returns the layer's rows as %y."""
    block = Block(arg_types=list(inputs.values()))
    for arg, hint in zip(block.args, inputs, strict=True):
        arg.name_hint = hint
    args = dict(zip(inputs, block.args, strict=True))
    layer = Layer(rows, Builder(InsertPoint.at_end(block)), args, of)
    y = layer.build(args["x"])
    y.name_hint = "y"
    block.add_op(func.ReturnOp(y))
    made = func.FuncOp(name, ([arg.type for arg in block.args], [y.type]), Region(block))
    made.attributes["ck.entry"] = UnitAttr()
    return made


def stored(*sizes: int) -> Attribute:
    return tensor(*sizes) if len(sizes) == 1 else WeightType.of(sizes, "f32")


@cache
def inference() -> ModuleOp:
    inputs = {"n": IndexType(), "pos": IndexType()}
    functions = [
        entry(name, rows, {"x": tensor(rows, WIDTH), **inputs}, stored)
        for name, rows in (("prefill", CHUNK), ("decode", 1))
    ]
    module = ModuleOp(functions)
    module.verify()
    return stages(module, ("scheduled",))["scheduled"]


def operands(values: Mapping[str, np.ndarray]) -> dict[str, Operand]:
    return {name: Operand(value, value) for name, value in values.items()}


def rows_of(built: Built, x: np.ndarray, chunks: tuple[int, ...], threads: int) -> np.ndarray:
    """The layer over `x`, chunk by chunk, its states NaN before the first."""
    types = {**{name: stored(*value.shape) for name, value in numbers().items()}, **STATES}
    states = {name: np.full(of.get_shape(), np.nan, np.float32) for name, of in STATES.items()}
    run = Compiled(built, threads, types, operands(numbers()), states)
    found, pos = [], 0
    for n in chunks:
        capacity = 1 if n == 1 else CHUNK
        given = np.full((capacity, WIDTH), np.nan, np.float32)
        given[:n] = x[pos : pos + n]
        (y,) = run("decode" if n == 1 else "prefill", {"x": given, "n": n, "pos": pos})
        found.append(y[:n].copy())
        pos += n
    return np.concatenate(found)


def by_torch(x: np.ndarray) -> torch.Tensor:
    return peer()(torch.from_numpy(x)[None])[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_layer_is_transformers_own(backend: str, tmp_path: Path, measured: Callable[[str], None]) -> None:
    """Whatever the prompt is cut into, the same bits; near transformers, whose prompt is in chunks of 64."""
    built = Built(inference(), backend, tmp_path)
    x = np.random.default_rng(1).standard_normal((N_TOKENS, WIDTH), np.float32)
    whole = rows_of(built, x, (CHUNK, CHUNK, N_TOKENS - 2 * CHUNK), 2)
    for chunks in ((1,) * N_TOKENS, (63, 64, 1, 65, 7), (2, 3, *(1,) * 10, 90, 95)):
        assert sum(chunks) == N_TOKENS
        assert np.array_equal(rows_of(built, x, chunks, 1), whole)
    worst = float(np.abs(whole - by_torch(x).detach().numpy()).max())
    measured(f"linear attention by {backend} against transformers, {N_TOKENS} rows: max abs {worst:.1e}")
    assert worst <= MAX_ABS


@cache
def training() -> ModuleOp:
    rows = sum(DOCUMENTS)
    inputs = {"x": tensor(rows, WIDTH), "starts": ids(rows), "n": IndexType()}
    step = entry("train_step", rows, inputs, trained)
    step.attributes["ck.trainable"] = ArrayAttr([SymbolRefAttr(name) for name in numbers()])
    options = {"budget": 1.0, "dtype": "f32", "optimizer": "adamw", "decay": "all"}
    choices = {name: attr(value) for name, value in options.items()}
    module = ModuleOp([step])
    module.attributes["ck.training"] = DictionaryAttr({**choices, "toward_one": ArrayAttr([])})
    module.verify()
    return stages(module, ("scheduled",))["scheduled"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_gradient_is_transformers_own(
    backend: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    rng, rows = np.random.default_rng(2), sum(DOCUMENTS)
    x, slope = rng.standard_normal((2, rows, WIDTH), np.float32)
    zeros = {
        f"{kind}.{name}": np.zeros_like(value)
        for kind in ("grad", "adam_m", "adam_v")
        for name, value in numbers().items()
    }
    values = {**numbers(), **zeros}
    types = {name: trained(*value.shape) for name, value in values.items()}
    run = Compiled(Built(training(), backend, tmp_path), 2, types, operands(values), {})
    first = starts(*DOCUMENTS).astype(np.int32)
    (y,) = run("train_step", {"x": x, "starts": first, "n": rows, "d_y": slope})
    peer().zero_grad()
    wanted = torch.cat([by_torch(part) for part in np.split(x, np.cumsum(DOCUMENTS)[:-1])])
    wanted.backward(torch.from_numpy(slope))
    assert float(np.abs(y - wanted.detach().numpy()).max()) <= MAX_ABS
    wants = {name: flat(weight.grad) for name, weight in zip(numbers(), peer().parameters(), strict=True)}
    whole = sum(size(want) ** 2 for want in wants.values()) ** 0.5
    for name, want in wants.items():
        apart = size(run.weights[f"grad.{name}"] - want)
        measured(f"gradient of {name} by {backend}: off by {apart / size(want):.1e}")
        assert apart <= RELATIVE * size(want) + FLOOR * whole, name


def size(values: np.ndarray) -> float:
    return float(np.linalg.norm(values.astype(np.float64)))
