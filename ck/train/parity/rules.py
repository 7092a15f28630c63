"""The gradient rules on the values of a real step: each op's `vjp` against a difference of its `reference`.

    sum_r <dy_r, f_r(x + h u) - f_r(x - h u)> / 2h   against   <dx, u>

in f64, h = 1e-5 of x's size, for a random direction u and for dx itself. The walk goes from the loss back, so
the cotangents that reach an op have come through rules that hold; the first that does not hold is the one to
look at. The gradients at the end of the walk are also what ck-differentiate must make.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.builder import Builder
from xdsl.ir import Block, SSAValue
from xdsl.rewriter import InsertPoint

from ck.ir.dialects import context
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.op import Array, CkOp, Differentiable
from ck.passes.differentiate import DifferentiatePass
from ck.train.parity.graphs import STEP, Forward, Problem, is_f32, run

STEP_SIZE = 1e-5
# Of a right rule about 1e-9: 1e-16 of the values over h.
LIMIT = 1e-5


@dataclass(frozen=True)
class BrokenRule:
    """An op whose gradient is not the slope of its reference: of which operand, by which ops, how far off."""

    op: CkOp
    operand: str
    made_by: str
    error: float


@dataclass
class Backward:
    """What flowed back: the cotangent of each value, the weights' gradients, and the rules that are broken,
    from the loss back."""

    cotangents: dict[SSAValue, Array] = field(default_factory=dict[SSAValue, Array])
    gradients: dict[str, Array] = field(default_factory=dict[str, Array])
    broken: list[BrokenRule] = field(default_factory=list[BrokenRule])


def walk_back(forward: Forward, trained: Iterable[str]) -> Backward:
    """Flow back through every op by its own rule, each checked."""
    names = set(trained)
    active = _active(forward, names)
    found = Backward({forward.returned[0]: forward.slopes})
    random = np.random.default_rng(0)
    for op in reversed(forward.ops):
        cotangents = [found.cotangents.get(result) for result in op.results]
        if all(dy is None for dy in cotangents) or not any(v in active for v in op.operands):
            continue
        assert isinstance(op, Differentiable)
        slopes, made_by = _flow(op, cotangents, forward)
        for place, (operand, dx) in enumerate(zip(op.operands, slopes, strict=True)):
            if operand not in active or dx is None:
                continue
            error = _difference(op, place, dx, cotangents, forward, random)
            if not error <= LIMIT:
                hint = operand.name_hint or str(place)
                found.broken.append(BrokenRule(op, hint, made_by, error))
            before = found.cotangents.get(operand)
            found.cotangents[operand] = dx if before is None else before + dx
    for name in names:
        value = forward.weights.get(name)
        if value is not None and value in found.cotangents:
            found.gradients[name] = found.cotangents[value]
    return found


def _active(forward: Forward, names: set[str]) -> set[SSAValue]:
    """Every value that depends on a trained weight."""
    active = {value for name, value in forward.weights.items() if name in names}
    for op in forward.ops:
        if any(operand in active for operand in op.operands):
            active.update(op.results)
    return active


def _flow(op: Any, cotangents: list[Array | None], forward: Forward) -> tuple[list[Array | None], str]:
    """The cotangents of `op`'s operands by its rule, and the names of the ops that made them."""
    given = [result for result, dy in zip(op.results, cotangents, strict=True) if dy is not None]
    block = Block(arg_types=[result.type for result in given])
    values = dict(forward.values)
    arguments = iter(block.args)
    seeds = [None if dy is None else next(arguments) for dy in cotangents]
    for seed, dy in zip(seeds, cotangents, strict=True):
        if seed is not None:
            values[seed] = dy
    slopes = op.vjp(Builder(InsertPoint.at_end(block)), *seeds)
    names: list[str] = []
    for made in block.ops:
        assert isinstance(made, CkOp)
        values.update(zip(made.results, run(made, values), strict=True))
        names.append(made.name)
    found = [None if slope is None else values[slope] for slope in slopes]
    for made in reversed(list(block.ops)):
        made.detach()
        made.erase()
    return found, ", ".join(dict.fromkeys(names))


def _difference(
    op: CkOp,
    place: int,
    dx: Array,
    cotangents: list[Array | None],
    forward: Forward,
    random: np.random.Generator,
) -> float:
    """How far <dx, u> is from the slope of the reference along u, as a share of what <dx, u> is at most.

    Along dx itself, which shows a wrong size, and along a random direction, which shows anything.
    """
    top = float(np.abs(dx).max(initial=0.0))
    directions: list[tuple[Array, float]] = [(random.standard_normal(dx.shape), 1.0)]
    if top > 0:
        along = dx * (3 / top)
        directions.append((along, float(np.linalg.norm(along))))
    errors: list[float] = []
    for direction, length in directions:
        slope = _slope(op, place, direction, cotangents, forward)
        claimed = _dot(dx, direction)
        scale = max(length * float(np.linalg.norm(dx)), abs(slope))
        errors.append(abs(slope - claimed) / scale if scale else 0.0)
    return max(errors)


def _slope(op: CkOp, place: int, direction: Array, cotangents: list[Array | None], forward: Forward) -> float:
    """The slope of <dy, reference> along `direction` of one operand, by a central difference."""
    operands = [forward.values[operand] for operand in op.operands]
    x: Array = operands[place]
    size = STEP_SIZE * max(math.sqrt(float((x * x).mean())), 1e-3)
    ends: list[float] = []
    for sign in (1, -1):
        operands[place] = x + sign * size * direction
        with np.errstate(all="ignore"):
            results = op.reference(*operands)
        # Differences from the value first: what the two ends share would swamp them.
        moved = [y - at for y, at in zip(results, _values_of(op, forward), strict=True)]
        ends.append(sum(_dot(y, dy) for y, dy in zip(moved, cotangents, strict=True) if dy is not None))
    return (ends[0] - ends[1]) / (2 * size)


def _dot(a: Array, b: Array) -> float:
    return float(np.sum(a * b))


def _values_of(op: CkOp, forward: Forward) -> list[Any]:
    """The results of `op` in the forward pass."""
    return [forward.values[result] for result in op.results]


def differentiated(problem: Problem) -> dict[str, Array]:
    """The gradients that ck-differentiate's function gives in f64."""
    built = problem.graph()
    DifferentiatePass().apply(context(), built.module)
    function = find_function(built.module, STEP)
    tensors = problem.tensors(built.constants, np.float64)
    arguments = [v.astype(np.float64) if is_f32(v) else v for v in problem.arguments(function)]
    results = evaluate(built.module, STEP, arguments, Environment(tensors))
    names = list(problem.template.shapes)
    return dict(zip(names, results[-len(names) :], strict=True))
