"""Random small graphs of `ck` ops with the shapes that models have: products, norms, gates, heads, caches.

`random_graph(seed)` is the same for the same seed. Its entries are @prefill [ROWS, D] and @decode [1, D], the
same ops on the same weights.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.builder import Builder, InsertPoint
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, IndexType, ModuleOp, UnitAttr
from xdsl.ir import Block, Region, SSAValue

from ck.ir.op import CkOp
from ck.ir.ops.add import AddOp
from ck.ir.ops.attention import AttentionOp
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.gelu_tanh import GeluTanhOp
from ck.ir.ops.kv_append import KvAppendOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.rope import RopeOp
from ck.ir.ops.rope_table import RopeTableOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.silu import SiluOp
from ck.ir.ops.softcap import SoftcapOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import KvType, WeightType, shape, tensor
from tests.ops.case import Operand, Sample, draw

ROWS, D, HEAD_DIM, CAPACITY = 6, 64, 32, 64
WIDTHS = (32, 64, 96)
STORAGE = ("f32", "f32", "f16", "q8_0", "q4_1", "q5_0")


@dataclass
class RandomGraph:
    """The module, and the values of its weights."""

    module: ModuleOp
    weights: dict[str, Operand] = field(default_factory=dict[str, Operand])


def random_graph(seed: int, storage: tuple[str, ...] = STORAGE) -> RandomGraph:
    """A graph of about 50 ops, every kind of step once; its products' weights have types of `storage`."""
    weights: dict[str, Operand] = {}
    functions = [
        _function(name, rows, seed, storage, weights) for name, rows in (("prefill", ROWS), ("decode", 1))
    ]
    module = ModuleOp(functions)
    module.verify()
    return RandomGraph(module, weights)


def _function(
    name: str, rows: int, seed: int, storage: tuple[str, ...], weights: dict[str, Operand]
) -> func.FuncOp:
    types = [tensor(rows, D), IndexType(), IndexType()]
    block = Block(arg_types=types)
    for arg, hint in zip(block.args, ("x", "n", "pos"), strict=True):
        arg.name_hint = hint
    grower = Grower(random.Random(seed), Builder(InsertPoint.at_end(block)), block, storage, weights)
    result = grower.grow()
    result.name_hint = "y"
    grower.builder.insert(func.ReturnOp(result))
    function = func.FuncOp(name, FunctionType.from_lists(types, [result.type]), Region(block))
    function.attributes["ck.entry"] = UnitAttr()
    return function


class Grower:
    """Appends random steps, each on values that are there; norms keep the numbers near 1."""

    def __init__(
        self,
        random: random.Random,
        builder: Builder,
        block: Block,
        storage: tuple[str, ...],
        weights: dict[str, Operand],
    ) -> None:
        self.random, self.builder, self.storage, self.weights = random, builder, storage, weights
        self.block = block
        self.x, self.n, self.pos = block.args[:3]
        self.rows = shape(self.x.type)[0]
        self.values: list[SSAValue] = [self.x]
        self.n_weights = self.n_caches = 0
        freq = self._weight(tensor(HEAD_DIM // 2))
        self.table = self._op(RopeTableOp, freq, self.pos, rows=self.rows).table

    def grow(self) -> SSAValue:
        steps: list[Callable[[], SSAValue]] = [
            self._norm, self._linear, self._residual, self._gate, self._activation, self._sum, self._heads,
            self._attend, self._scaled,
        ]  # fmt: skip
        self.random.shuffle(steps)
        for step in steps:
            self.values.append(step())
        # What nobody reads ends in the result, so that little is dead.
        ends = [value for value in self.values if not value.uses] or self.values[-1:]
        total = self._product(ends[0], D)
        for value in ends[1:]:
            total = self._op(AddOp, total, self._product(value, D)).y
        return self._op(RmsNormOp, total, self._weight(tensor(D)), eps=1e-5).y

    def _op(self, kind: type[CkOp], *operands: SSAValue, **properties: Any) -> Any:
        return self.builder.insert(kind.build_op(*operands, **properties))

    def _weight(self, of: Any) -> SSAValue:
        name = f"w.{self.n_weights}"
        self.n_weights += 1
        if name not in self.weights:
            (drawn,) = draw(Sample((of,)))
            self.weights[name] = drawn
        return self.builder.insert(WeightOp.of(name, of)).value

    def _pick(self, width: int | None = None) -> SSAValue:
        known = [v for v in self.values if width is None or shape(v.type)[1] == width]
        return self.random.choice(known or [self.x])

    def _normed(self, value: SSAValue) -> SSAValue:
        return self._op(RmsNormOp, value, self._weight(tensor(shape(value.type)[1])), eps=1e-5).y

    def _product(self, value: SSAValue, width: int) -> SSAValue:
        of = WeightType.of((width, shape(value.type)[1]), self.random.choice(self.storage))
        return self._op(LinearOp, value, self._weight(of)).y

    def _norm(self) -> SSAValue:
        return self._normed(self._pick())

    def _linear(self) -> SSAValue:
        return self._normed(self._product(self._pick(), self.random.choice(WIDTHS)))

    def _residual(self) -> SSAValue:
        """A sum with a product; what was added is read again after it, by a step that needs the sum too."""
        added = self._pick(D)
        total = self._op(AddOp, added, self._product(self._norm(), D)).y
        later = self._op(SiluOp, added).y
        return self._normed(self._op(MulOp, self._product(self._normed(total), D), later).y)

    def _gate(self) -> SSAValue:
        x = self._norm()
        of = WeightType.of((96, shape(x.type)[1]), self.random.choice(self.storage))
        gate, up = (self._op(LinearOp, x, self._weight(of)).y for _ in range(2))
        act = self._op(self.random.choice((SiluOp, GeluTanhOp)), gate).y
        return self._product(self._normed(self._op(MulOp, act, up).y), D)

    def _activation(self) -> SSAValue:
        return self._op(self.random.choice((SiluOp, GeluTanhOp)), self._pick()).y

    def _sum(self) -> SSAValue:
        first = self._pick()
        second = self._pick(shape(first.type)[1])
        return self._op(AddOp, first, second).y if first.type == second.type else first

    def _scaled(self) -> SSAValue:
        if self.random.random() < 0.5:
            return self._op(SoftcapOp, self._pick(), cap=5.0).y
        return self._op(ScaleOp, self._pick(), factor=0.75).y

    def _heads(self) -> SSAValue:
        """A norm of every head, its rotation, and their sum: the norm is read after it was turned."""
        x = self._pick()
        heads = shape(x.type)[1] // HEAD_DIM
        split = self.builder.insert(ReshapeOp.to(x, self.rows * heads, HEAD_DIM)).y
        normed = self._normed(split)
        joined = self.builder.insert(ReshapeOp.to(normed, self.rows, heads * HEAD_DIM)).y
        turned = self._op(RopeOp, joined, self.table, heads=heads, mode="neox").y
        return self._op(AddOp, turned, joined).y

    def _attend(self) -> SSAValue:
        x = self._norm()
        q, k, v = (self._product(x, width) for width in (2 * HEAD_DIM, HEAD_DIM, HEAD_DIM))
        q, k = (
            self._op(RopeOp, value, self.table, heads=heads, mode="interleaved").y
            for value, heads in ((self._normed(q), 2), (self._normed(k), 1))
        )
        cache = self.builder.insert(CacheOp.of(f"c.{self.n_caches}", KvType.of(1, CAPACITY, HEAD_DIM, "f32")))
        self.n_caches += 1
        kept = self._op(KvAppendOp, cache.value, k, v, self.n, self.pos).y
        return self._op(AttentionOp, q, kept, self.n, self.pos, heads=2, scale=0.25, window=0).y


def values(graph: RandomGraph) -> dict[str, np.ndarray]:
    """The weights as f32 arrays."""
    return {name: operand.value for name, operand in graph.weights.items()}
