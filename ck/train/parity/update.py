"""The optimizer on a real step: the compiled update against its op's reference in f64."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ck.ir.op import Array
from ck.ir.ops.adamw import optimizer_properties
from ck.passes.add_optimizer import OPTIMIZERS
from ck.train.parity.figures import ULP, distance, norm
from ck.train.parity.graphs import Problem
from ck.train.parity.steps import Step

# Of ||result||, or for the norm of itself: a few roundings to f32.
LIMIT = 4 * ULP


@dataclass(frozen=True)
class WrongUpdate:
    """An op of the update whose compiled value is not its reference's."""

    op: str
    tensor: str
    error: float


def wrong_update(problem: Problem, step: Step) -> WrongUpdate | None:
    """The first op of the update that departs; None when the compiled update is what its ops say."""
    squares = sum(norm(gradient) ** 2 for gradient in step.gradients.values())
    size = math.sqrt(squares)
    if not abs(step.norm - size) <= LIMIT * size:
        return WrongUpdate("ck.global_norm", "the norm of all gradients", abs(step.norm - size) / size)
    kind, moments = OPTIMIZERS[str(problem.options["optimizer"])]
    limit = step.hyper.max_grad_norm
    clip = np.array([size, min(1.0, limit / (size + 1e-6)) if limit > 0 else 1.0])
    values = step.hyper.for_adamw(step.number) if len(moments) > 1 else step.hyper.for_sgd(step.number)
    for name, weight in step.weights.items():
        states = [step.states[f"{moment}.{name}"] for moment in moments]
        operands = [np.asarray(v, np.float64) for v in (weight, step.gradients[name], *states)]
        op = kind.create(properties=optimizer_properties(_choices(problem, name, weight)))
        want = op.reference(*operands, clip, np.array(values))
        error = _error(step, name, moments, want)
        if not error <= LIMIT:
            return WrongUpdate(kind.name, name, error)
    return None


def _choices(problem: Problem, name: str, weight: Array) -> Mapping[str, Any]:
    template = problem.template
    toward_one = name in template.architecture.stored_as_one_plus(template.hp)
    return {
        "decay": int(problem.options["decay"] == "all" or weight.ndim == 2),
        "toward": float(toward_one),
    }


def _error(step: Step, name: str, moments: tuple[str, ...], want: tuple[Any, ...]) -> float:
    """How far the new weight or a new state is from `want`, whose second is the gradient, now zero."""
    got = [step.new_weights[name], *(step.new_states[f"{moment}.{name}"] for moment in moments)]
    exact = [want[0], *want[2:]]
    sizes = [norm(each) for each in exact]
    apart = [distance(a, b) for a, b in zip(got, exact, strict=True)]
    return max(gap / size if size else gap for gap, size in zip(apart, sizes, strict=True))
