"""The strategies reach every op that a frontend may write, and every value of its properties that matters."""

import random
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from ck.dtypes import BY_NAME
from ck.ir.op import CkOp
from ck.ir.ops import OPS
from ck.ir.ops.accumulate import AccumulateOp
from ck.ir.ops.adamw import AdamwOp
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.delta_rule import ORDERS
from ck.ir.ops.embed import EmbedOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.ops.gain import FORMS
from ck.ir.ops.global_norm import GlobalNormOp
from ck.ir.ops.glu import GluOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.linear_multi import LinearMultiOp
from ck.ir.ops.matmul import MatmulOp
from ck.ir.ops.quantize_rows import QuantizeRowsOp
from ck.ir.ops.reduce_rows import ReduceRowsOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rope import MODES
from ck.ir.ops.sgd import SgdOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import CacheType, KvType, WeightType, shape
from tests.graphs import inference, train
from tests.graphs.drawing import CAPS, COLUMNS, EPS, FACTORS, TAPS
from tests.graphs.program import Graph
from tests.graphs.recurrent import RULE_HEADS
from tests.graphs.torch_meaning import MEANINGS

MADE_BY_PASSES = (
    AccumulateOp, AdamwOp, FusedOp, GlobalNormOp, GluOp, LinearMultiOp, MatmulOp, QuantizeRowsOp,
    ReduceRowsOp, SgdOp, YieldOp,
)  # fmt: skip
LEAVES = (CacheOp, WeightOp)
WRITTEN = {op for op in OPS if op not in (*MADE_BY_PASSES, *LEAVES) and not op.name.endswith("_bwd")}
COUNT = 1000


@cache
def programs() -> tuple[Any, ...]:
    """As many as are promised to reach everything."""
    seeds = range(COUNT)
    return tuple(
        make(random.Random(seed).choice)
        for make in (inference.draw_inference, train.draw_training)
        for seed in seeds
    )


def graphs() -> Iterator[Graph]:
    return (program.graph for program in programs())


@cache
def reached() -> dict[tuple[type[CkOp], str], set[Any]]:
    """The values of every property of every op."""
    found: dict[tuple[type[CkOp], str], set[Any]] = defaultdict(set)
    for graph in graphs():
        for node in graph.nodes:
            found[node.kind, ""].add(None)
            for name, value in node.properties:
                found[node.kind, name].add(value)
    return found


def values(name: str, prop: str) -> set[Any]:
    """What property `prop` of the ops called `name` was."""
    return {
        value for (kind, of), found in reached().items() if (kind.name, of) == (name, prop) for value in found
    }


def test_every_op_is_reached_and_read_by_pytorch() -> None:
    assert {kind for kind, _ in reached()} == WRITTEN
    assert {op.name for op in WRITTEN} == set(MEANINGS)


@pytest.mark.parametrize(
    ("op", "prop", "wanted"),
    [
        ("ck.rms_norm", "eps", EPS),
        ("ck.softcap", "cap", CAPS),
        ("ck.scale", "factor", FACTORS),
        ("ck.rope", "mode", MODES),
        ("ck.rope_table", "factor", (1.25,)),
        ("ck.rope", "heads", (1, 2, 3, 4, 6)),
        ("ck.attention", "window", inference.WINDOWS),
        ("ck.attention", "scale", inference.SCALES),
        ("ck.attention", "heads", {heads for heads, _ in inference.HEADS}),
        ("ck.packed_attention", "window", train.WINDOWS),
        ("ck.packed_attention", "scale", inference.SCALES),
        ("ck.l2_norm", "eps", EPS),
        ("ck.gain", "form", FORMS),
        ("ck.delta_rule", "order", ORDERS),
        ("ck.delta_rule", "heads", {heads for heads, _ in RULE_HEADS}),
        ("ck.packed_delta_rule", "order", ORDERS),
        ("ck.reshape", "per_token", (1, 2, 3, 4, 8)),
    ],
)
def test_every_property_is_reached(op: str, prop: str, wanted: Any) -> None:
    assert set(wanted) <= values(op, prop)


@pytest.mark.parametrize("kind", [LinearOp, EmbedOp])
def test_every_storage_type_is_reached(kind: type[CkOp]) -> None:
    found: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for graph in graphs():
        for node in graph.nodes:
            if node.kind is kind:
                of = dict(graph.leaves)[node.operands[1]]
                assert isinstance(of, WeightType)
                found[of.storage.data].add(shape(of))
    assert found.keys() == BY_NAME.keys()
    assert {columns for _, columns in found["f32"]} >= set(COLUMNS)


def test_every_kind_of_cache_is_reached() -> None:
    caches = {of for graph in graphs() for of in graph.caches.values()}
    known = {(of.dtype_name, shape(of)[1]) for of in caches if isinstance(of, KvType)}
    assert known == {("f16", 64), ("f16", 128), ("f32", 64), ("f32", 128)}
    assert {shape(of)[0] + 1 for of in caches if len(shape(of)) == 2} == set(TAPS)
    assert any(map(_is_written_over, programs()[:COUNT]))


def _is_written_over(program: inference.Inference) -> bool:
    """Whether a cache gets more positions than it holds."""
    last = program.first + sum(n for _, n in program.calls)
    return any(last > shape(of)[1] for of in program.graph.caches.values() if isinstance(of, KvType))


def test_every_way_to_train_is_reached() -> None:
    trained = programs()[COUNT:]
    found = {(name, value) for program in trained for name, value in program.options}
    wanted = {
        "budget": (0.0, 0.5, 1.0),
        "dtype": ("f32", "bf16"),
        "optimizer": ("adamw", "sgd"),
        "decay": ("matrices", "all"),
    }
    assert found == {(name, value) for name, all_of_them in wanted.items() for value in all_of_them}
    assert {program.hyper for program in trained} == set(train.HYPERS)
    assert any(program.ones for program in trained)
    assert any(len(program.learned) < len(program.graph.weights) for program in trained)
    assert any(1 in lengths and len(lengths) > 1 for program in trained for lengths in program.batches)


def features(graph: Graph) -> dict[str, bool]:
    """What passes have to get right about values, in words; whether it occurs."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for node in graph.nodes:
        for operand in node.operands:
            kinds[operand].append(node.kind.name)
    made = {result: node.kind.name for node in graph.nodes for result in node.results}
    viewed = [node.operands[0] for node in graph.nodes if node.kind is ReshapeOp]
    return {
        "one op reads it twice": any(len({*node.operands}) < len(node.operands) for node in graph.nodes),
        "several read it": any(len(kinds[name]) > 2 for name in made),
        "dead": any(not kinds[name] and name not in graph.results for name in made),
        "returned and read": any(kinds[name] for name in graph.results),
        "several results": len(graph.results) > 1,
        "a part that nobody reads": any(not kinds[name] for node in graph.nodes for name in node.others),
        "a state that is written": any(len(shape(of)) == 2 for of in graph.caches.values()),
        "a view of a view": any(made.get(name) == "ck.reshape" for name in viewed),
        "a view of the input": "x" in viewed,
        "a weight read twice": any(len(kinds[name]) > 1 for name in graph.weights),
        "a tied head": any({"ck.embed", "ck.linear"} <= {*kinds[name]} for name in graph.weights),
        "a tied loss": any({"ck.embed", "ck.cross_entropy"} <= {*kinds[name]} for name in graph.weights),
        "a cache read twice": any(kinds[name].count("ck.attention") > 1 for name in made),
    }


def test_shapes_of_graphs_are_reached() -> None:
    found = [features(graph) for graph in graphs()]
    assert [name for name in found[0] if not any(of[name] for of in found)] == []


def test_programs_are_small() -> None:
    """One costs a fraction of a second: 15 ops at most on average."""
    sizes = [len(graph.nodes) for graph in graphs()]
    assert sum(sizes) / len(sizes) <= 15
    assert max(sizes) <= 40
    types = [of for graph in graphs() for _, of in graph.leaves if not isinstance(of, CacheType)]
    assert max(shape(of)[-1] for of in types) <= 512
