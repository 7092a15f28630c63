"""Random small graphs to be trained: those of random_graphs.py with weights that are, and packed documents.

@train_step(x [ROWS, D], n, pos, starts [ROWS]) -> y [ROWS, D]
"""

import random
from functools import cache

from xdsl.builder import Builder, InsertPoint
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    FunctionType,
    IndexType,
    ModuleOp,
    SymbolRefAttr,
    UnitAttr,
)
from xdsl.ir import Block, Region, SSAValue

from ck.ir.op import attr
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.packed_attention import PackedAttentionOp
from ck.ir.ops.rope import RopeOp
from ck.ir.ops.silu import SiluOp
from ck.ir.types import shape, tensor, trained
from tests.ops.case import Operand, ids
from tests.passes.programs import Program, staged
from tests.passes.random_graphs import HEAD_DIM, ROWS, D, Grower, RandomGraph, values

# The first weight of a graph is the frequencies of its positions.
FREQUENCIES = "w.0"


class _Trained(Grower):
    """Weights are row-major, attention is among the rows of documents."""

    def _product(self, value: SSAValue, width: int) -> SSAValue:
        return self._op(LinearOp, value, self._weight(trained(width, shape(value.type)[1]))).y

    def _gate(self) -> SSAValue:
        x = self._norm()
        gate, up = self._product(x, 96), self._product(x, 96)
        gated = self._op(MulOp, self._op(SiluOp, gate).y, up).y
        return self._product(self._normed(gated), D)

    def _attend(self) -> SSAValue:
        x = self._norm()
        q, k, v = (self._product(x, width) for width in (2 * HEAD_DIM, HEAD_DIM, HEAD_DIM))
        q, k = (
            self._op(RopeOp, value, self.table, heads=heads, mode="interleaved").y
            for value, heads in ((self._normed(q), 2), (self._normed(k), 1))
        )
        window = self.random.choice((0, 2))
        properties = {"heads": 2, "kv_heads": 1, "scale": 0.25, "window": window}
        return self._op(PackedAttentionOp, q, k, v, self.block.args[3], **properties).y


def random_training_graph(seed: int, budget: float) -> RandomGraph:
    """A graph of about 50 ops, all of whose weights but the frequencies are trained."""
    weights: dict[str, Operand] = {}
    inputs = {"x": tensor(ROWS, D), "n": IndexType(), "pos": IndexType(), "starts": ids(ROWS)}
    block = Block(arg_types=list(inputs.values()))
    for arg, hint in zip(block.args, inputs, strict=True):
        arg.name_hint = hint
    grower = _Trained(random.Random(seed), Builder(InsertPoint.at_end(block)), block, (), weights)
    result = grower.grow()
    result.name_hint = "y"
    grower.builder.insert(func.ReturnOp(result))
    of = FunctionType.from_lists(list(inputs.values()), [result.type])
    function = func.FuncOp("train_step", of, Region(block))
    function.attributes["ck.entry"] = UnitAttr()
    learned = [SymbolRefAttr(name) for name in weights if name != FREQUENCIES]
    function.attributes["ck.trainable"] = ArrayAttr(learned)
    module = ModuleOp([function])
    module.attributes["ck.training"] = DictionaryAttr({"budget": attr(budget)})
    module.verify()
    return RandomGraph(module, weights)


@cache
def random_training_program(seed: int, budget: float) -> Program:
    """The graph at every stage."""
    graph = random_training_graph(seed, budget)
    return staged(graph.module, values(graph))
