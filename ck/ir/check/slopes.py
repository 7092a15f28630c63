"""Is what ck-differentiate made a gradient? Held against the slope of the function before it, in f64.

    L(w) = sum over results y of sum(y * d_y),  d_y the cotangents that the new arguments are
    (L(w + e u) - L(w - e u)) / 2 e  =  sum(dL/dw * u)

for one random direction u over all weights at once, in which every weight moves L about as much; where the
two differ, over one weight at a time, which names the wrong one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from ck.ir.check.cases import Case
from ck.ir.check.checker import Judged
from ck.ir.check.inputs import generator
from ck.ir.check.runs import GRADIENTS, doubled, entries, live_rows, outputs
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.functions import symbol_names
from ck.ir.op import Array
from ck.ir.ops.weight import WeightOp

STEP = 1e-6
# Of the slope's size; f64 rounding over the step is a thousand times less.
BOUND = 1e-5
# A weight on which little depends is not moved by more than this.
FARTHEST = 10.0


def judge_slopes(found: Judged) -> set[str]:
    """Raise CheckFailure when a gradient that the pass appended is not the slope."""
    for name, function in entries(found.new).items():
        if GRADIENTS in function.attributes and GRADIENTS not in find_function(found.old, name).attributes:
            case = next(case for entry, case in found.after if entry == name and case.name == "ragged")
            # What cannot be run is said not to be compared.
            if not isinstance(found.after[name, case], str):
                _judge(found, name, function, case)
    return set()


def _judge(found: Judged, name: str, function: func.FuncOp, case: Case) -> None:
    slope = _Slope(found, name, case)
    names = symbol_names(function.attributes[GRADIENTS])
    gradients = dict(zip(names, slope.run(found.new, {})[-len(names) :], strict=True))
    directions = {weight: slope.direction(weight, gradient) for weight, gradient in gradients.items()}
    if slope.agrees(directions, gradients):
        return
    for weight, direction in directions.items():
        if not slope.agrees({weight: direction}, gradients):
            wanted, got = slope.pair({weight: direction}, gradients)
            last = function.body.block.last_op
            assert last is not None
            made = last.operands[len(last.operands) - len(names) + names.index(weight)].owner
            text = (
                f"the gradient of @{weight} is not the slope: along a random direction {wanted:.9g} is "
                f"required, found {got:.9g}, made by: {str(made).splitlines()[0]}"
            )
            raise found.fail(name, str(case), text)
    raise found.fail(name, str(case), "the gradients together are not the slope")


@dataclass(frozen=True)
class _Slope:
    """The scalar L of one entry, in f64."""

    found: Judged
    name: str
    case: Case

    def run(self, module: ModuleOp, moved: Mapping[str, Array]) -> list[Array]:
        """The results of the entry with the weights `moved` in place of their own."""
        inputs, function = self.found.runner.inputs, find_function(module, self.name)
        names = {op.symbol_name for op in function.walk() if isinstance(op, WeightOp)}
        weights = {key: moved.get(key, doubled(inputs.weight(key, self.case))) for key in names}
        call = self.case.calls[0]
        args = [doubled(value) for value in self.found.runner.arguments(module, function, call, self.case)]
        results = evaluate(module, self.name, args, Environment(weights))
        found = zip(outputs(module, function), results, strict=True)
        return [live_rows(function, output, value, call) for output, value in found]

    def loss(self, moved: Mapping[str, Array]) -> float:
        """L with some weights moved, by the function before the pass."""
        results = self.run(self.found.old, moved)
        return sum(float((y * dy).sum()) for y, dy in zip(results, self.cotangents(), strict=True))

    def cotangents(self) -> list[Array]:
        """The values of the arguments that the pass added: one for each result."""
        old, new = (find_function(module, self.name) for module in (self.found.old, self.found.new))
        call = self.case.calls[0]
        values = self.found.runner.arguments(self.found.new, new, call, self.case)
        added = values[len(old.body.block.args) :]
        pairs = zip(outputs(self.found.old, old), added, strict=True)
        return [live_rows(new, output, doubled(value), call) for output, value in pairs]

    def direction(self, weight: str, gradient: Array) -> Array:
        """A random direction in which the weight moves L by about 1."""
        size = float(np.sqrt((gradient**2).sum()))
        return generator(weight, gradient.shape, 1).standard_normal(gradient.shape) * min(
            FARTHEST, 1 / max(size, 1e-30)
        )

    def pair(self, along: Mapping[str, Array], gradients: Mapping[str, Array]) -> tuple[float, float]:
        """The slope along a direction, and what the gradients say it is."""
        base = {name: doubled(self.found.runner.inputs.weight(name, self.case)) for name in along}
        up, down = (
            self.loss({name: base[name] + sign * STEP * u for name, u in along.items()}) for sign in (1, -1)
        )
        return (up - down) / (2 * STEP), sum(float((gradients[name] * u).sum()) for name, u in along.items())

    def agrees(self, along: Mapping[str, Array], gradients: Mapping[str, Array]) -> bool:
        """Whether the two agree, as nearly as differences in f64 tell."""
        wanted, got = self.pair(along, gradients)
        sizes = (float(((gradients[name] ** 2).sum()) * (u**2).mean()) for name, u in along.items())
        return abs(wanted - got) <= BOUND * max(1e-3, float(np.sqrt(sum(sizes))))
