"""The pipeline's stages on a real step: each is interpreted in f32, and its gradients compared with f64 ones.

Where every op's kernel agrees with its reference and the program still departs, a pass is at fault: the first
stage whose gradients depart says which passes to look at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from ck.ir.dialects import context
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.op import Array
from ck.ir.rt.evaluate import evaluate_rt
from ck.ir.types import is_buffer, shape
from ck.passes.pipeline import TRAINING_STAGES, run_stages
from ck.train.parity.figures import relatives
from ck.train.parity.graphs import STEP, Problem

LIMIT = 1e-5


@dataclass(frozen=True)
class WrongStage:
    """A stage whose gradients depart: its passes, the tensor that is worst off."""

    stage: str
    passes: tuple[str, ...]
    tensor: str
    error: float


def first_wrong_stage(problem: Problem, exact: Mapping[str, Array]) -> WrongStage | None:
    """The first stage whose gradients depart from `exact`; None when all agree."""
    built = problem.graph()
    passes = {stage.name: tuple(kind.name for kind in stage.passes) for stage in TRAINING_STAGES}
    for stage in run_stages(context(), built.module):
        if stage == TRAINING_STAGES[0].name:
            continue
        apart = relatives(_gradients(built.module, problem, built.constants), exact)
        tensor = max(apart, key=apart.__getitem__)
        if not apart[tensor] <= LIMIT:
            return WrongStage(stage, passes[stage], tensor, apart[tensor])
    return None


def _gradients(module: ModuleOp, problem: Problem, constants: Mapping[str, Array]) -> dict[str, Array]:
    """What the step of a module adds to gradients that are zero."""
    sizes = problem.template.shapes
    states = {f"grad.{name}": np.zeros(size, np.float32) for name, size in sizes.items()}
    environment = Environment({**problem.tensors(constants, np.float32), **states})
    function = find_function(module, STEP)
    if any(is_buffer(arg.type) for arg in function.body.block.args):
        evaluate_rt(module, STEP, _buffers(function, problem), environment)
    else:
        evaluate(module, STEP, problem.arguments(function), environment)
    return {name: states[f"grad.{name}"] for name in sizes}


def _buffers(function: func.FuncOp, problem: Problem) -> list[Any]:
    """Arguments of a function over buffers: the inputs, the slopes last, and room for results."""
    arguments = function.body.block.args
    n_inputs = 1 + next(n for n, arg in enumerate(arguments) if str(arg.name_hint).startswith("d_"))
    room = [np.full(shape(arg.type), np.nan, np.float32) for arg in arguments[n_inputs:]]
    return [*problem.arguments(function)[:n_inputs], *room]
