"""Larger random graphs by number for tests of passes: each kind of step, nothing dead, weights read once."""

import random
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute

from ck.ir.ops.add import AddOp
from ck.ir.ops.reshape import ReshapeOp
from tests.graphs.drawing import Value
from tests.graphs.inference import Inference, InferenceDrawing
from tests.graphs.values import arrays, draw_weights
from tests.ops.case import Operand

ROWS, COLUMNS = 6, 64


@dataclass(frozen=True)
class RandomGraph:
    """The module: @prefill of ROWS and @decode; and what it was drawn as."""

    program: Inference
    module: ModuleOp

    @cached_property
    def weights(self) -> dict[str, Operand]:
        """The values of its weights."""
        return draw_weights(self.program.graph, self.program.seed)


def random_graph(number: int) -> RandomGraph:
    """A graph of about 50 ops, always the same."""
    drawing = _Whole(random.Random(number).choice, ROWS)
    names = [name for name in drawing.STEPS if name != "layers"]
    while names:
        name = drawing.choose(names)
        names.remove(name)
        getattr(drawing, name)()
    program = Inference(drawing.graph(("pos",)), ROWS, (("prefill", ROWS), ("decode", 1)), 0, number, "plain")
    return RandomGraph(program, program.module())


def values(graph: RandomGraph) -> dict[str, np.ndarray]:
    """The weights as f32 arrays."""
    return arrays(graph.weights)


class _Whole(InferenceDrawing):
    def leaf(self, of: Attribute, kind: str = "w") -> str:
        return self.fresh(of, kind)

    def linear(self) -> None:
        self.product(self.pick(rows=True), COLUMNS)

    def results(self) -> tuple[str, ...]:
        """One value, to which all that nobody read has come together."""
        read = {operand for node in self.nodes for operand in node.operands}
        ends = [self._in_rows(value) for value in self.values if value.name not in read]
        total = self.product(ends[0], COLUMNS)
        for end in ends[1:]:
            part = self.product(end, COLUMNS)
            total = self.keep(self.add(AddOp, total.name, part.name), 1, COLUMNS)
        return (self.normed(total).name,)

    def _in_rows(self, value: Value) -> Value:
        """`value` with one row a token."""
        if value.per_token == 1:
            return value
        columns = value.per_token * value.columns
        return self.keep(self.add(ReshapeOp, value.name, per_token=1, columns=columns), 1, columns)
