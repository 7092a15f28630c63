"""A program with recurrent states: any cut of a text, save, load and rewind give the same bits."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from xdsl.ir import SSAValue

from ck.backend.backends import BACKENDS, backend
from ck.frontend.graph import Graph, Plan, build_graph
from ck.frontend.template import make_template
from ck.ir.dialects import context
from ck.ir.ops.add import AddOp
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.causal_conv1d import CausalConv1dOp
from ck.ir.ops.delta_rule import DeltaRuleOp
from ck.ir.ops.embed import EmbedOp
from ck.ir.ops.l2_norm import L2NormOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.sigmoid import SigmoidOp
from ck.ir.ops.silu import SiluOp
from ck.ir.ops.softplus import SoftplusOp
from ck.ir.ops.split import SplitOp
from ck.ir.rt.manifest import manifest_of
from ck.ir.types import StateType, WeightType
from ck.passes.pipeline import run_stages
from ck.runtime.compilation import compile_module
from ck.runtime.executable import Executable
from ck.runtime.weights import Weights
from tests.ops.kernel_calls import pack

WIDTH, VOCAB, LAYERS, CHUNK, CONTEXT, TAPS = 32, 61, 4, 24, 128, 4
# One head of keys, two of values.
KEYS, VALUES, GATES = 16, 48, 2
SHAPES = {
    "qkv": (2 * KEYS + VALUES, WIDTH),
    "conv": (2 * KEYS + VALUES, TAPS),
    "gates": (2 * GATES, WIDTH),
    "out": (WIDTH, VALUES),
}
STORAGE = {f"blk.{i}.{name}": shape for i in range(LAYERS) for name, shape in SHAPES.items()}
STORAGE["token_embd.weight"] = (VOCAB, WIDTH)


def layer(g: Graph, h: SSAValue, i: int) -> SSAValue:
    """A filter, a delta rule, and the sum with what was there."""

    def state(name: str, *sizes: int) -> SSAValue:
        return g.builder.insert(CacheOp.of(f"blk.{i}.{name}", StateType.of(*sizes))).value

    where = g.args["n"], g.args["pos"]
    mixed = g.op(LinearOp, h, g.weight(f"blk.{i}.qkv")).y
    before = state("conv_state", TAPS - 1, 2 * KEYS + VALUES)
    mixed = g.op(CausalConv1dOp, before, mixed, g.weight(f"blk.{i}.conv"), *where).y
    q, k, v = g.op(SplitOp, g.op(SiluOp, mixed).y, sizes=(KEYS, KEYS, VALUES)).parts
    a, b = g.op(SplitOp, g.op(LinearOp, h, g.weight(f"blk.{i}.gates")).y, sizes=(GATES, GATES)).parts
    decay = g.op(ScaleOp, g.op(SoftplusOp, a).y, factor=-0.3).y
    rows = (q, g.op(L2NormOp, k, eps=1e-6).y, v, decay, g.op(SigmoidOp, b).y)
    form = {"heads": GATES, "key_heads": 1, "order": "grouped", "scale": 0.25}
    rule = g.op(DeltaRuleOp, state("rule_state", GATES, KEYS, VALUES // GATES), *rows, *where, **form)
    return g.op(AddOp, h, g.op(LinearOp, rule.y, g.weight(f"blk.{i}.out")).y).y


def hidden_states(g: Graph) -> SSAValue:
    h = g.op(EmbedOp, g.args["tokens"], g.weight("token_embd.weight")).y
    for i in range(LAYERS):
        h = layer(g, h, i)
    return h


@pytest.fixture(scope="module", params=BACKENDS)
def exe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Executable:
    hp = make_template(
        "llama",
        layers=1,
        embed_dim=WIDTH,
        hidden_dim=8,
        num_heads=2,
        num_kv_heads=1,
        vocab_size=VOCAB,
        tied=True,
    ).hp
    types = {name: WeightType.of(shape, "f32") for name, shape in STORAGE.items()}
    family = SimpleNamespace(hidden_states=hidden_states)
    module = build_graph(hp, family, dict(types), Plan(CHUNK, CONTEXT, "f32")).module
    for _ in run_stages(context(), module):
        module.verify()
    assert "rt.repeat" in str(module), "layers with states are rolled up"
    manifest = manifest_of(module)
    assert [slot.kind for slot in manifest.caches] == ["state"] * 2 * LAYERS
    program = compile_module(module, backend(request.param), tmp_path_factory.mktemp(request.param))
    rng = np.random.default_rng(3)
    packed: Any = {
        name: pack(
            WeightType.of(shape, "f32", "r16"),
            (rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32),
        )[: types[name].row.matrix_packed_bytes(*shape)]
        for name, shape in STORAGE.items()
    }
    no_file: Any = None
    weights = Weights(no_file, manifest.weights, packed, 1)
    made = Executable(program, manifest, weights, CONTEXT, CONTEXT, 2)
    for cache in made.caches:
        cache[:] = 0xFF
    return made


def text(n: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, VOCAB, n, np.int32)


@pytest.fixture(scope="module")
def whole(exe: Executable) -> np.ndarray:
    """Logits of a text that is fed in the largest chunks."""
    exe.reset()
    found = exe.score(text(100))
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == 100
    return found


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 23])
def test_any_cut_of_a_text_gives_the_same_bits(exe: Executable, whole: np.ndarray, chunk: int) -> None:
    exe.reset()
    assert np.array_equal(exe.score(text(100), chunk), whole)


@pytest.mark.parametrize("threads", [1, 3])
def test_token_by_token_gives_the_same_bits(exe: Executable, whole: np.ndarray, threads: int) -> None:
    exe.set_threads(threads)
    exe.reset()
    assert all(
        np.array_equal(exe.decode(int(token)), want) for token, want in zip(text(100), whole, strict=True)
    )


def test_a_state_rewinds_to_the_beginning_alone(exe: Executable, whole: np.ndarray) -> None:
    exe.reset()
    exe.score(text(50))
    assert not exe.rewind(49)
    assert exe.pos == 50
    assert exe.rewind(50)
    assert np.array_equal(exe.score(text(100)[50:]), whole[50:])
    assert exe.rewind(0)
    assert np.array_equal(exe.score(text(30)), whole[:30])


def test_what_was_saved_goes_on(exe: Executable, whole: np.ndarray) -> None:
    exe.reset()
    exe.score(text(40))
    saved = exe.save()
    exe.score(text(20))
    exe.reset()
    exe.score(text(7))
    exe.load(saved)
    assert exe.pos == 40
    assert np.array_equal(exe.score(text(100)[40:]), whole[40:])


def test_a_sequence_leaves_nothing_to_the_next(exe: Executable, whole: np.ndarray) -> None:
    exe.reset()
    exe.score(text(100)[::-1])
    exe.reset()
    assert np.array_equal(exe.score(text(100)), whole)
