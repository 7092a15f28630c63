"""Random graphs, differentiated: the slope of what they compute, and the same gradient at every stage."""

from typing import Any

import numpy as np
import pytest

from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.rt.evaluate import evaluate_rt
from ck.passes.differentiate import differentiate
from tests.passes.random_graphs import ROWS, D, values
from tests.passes.random_training import FREQUENCIES, random_training_graph, random_training_program

SEEDS = range(2)
LIVE = ROWS - 1
# f32 sums in other orders, through about 50 ops.
NMSE = 1e-9


def inputs(real: Any) -> dict[str, Any]:
    """Two documents; the last row is not live."""
    rng = np.random.default_rng(8)
    x, dy = (rng.standard_normal((ROWS, D)).astype(real) for _ in range(2))
    x[LIVE:], dy[LIVE:] = np.nan, np.nan
    starts = np.array([0, 0, 0, 3, 3, 1 << 30], np.int32)
    return {"x": x, "n": LIVE, "pos": 5, "starts": starts, "d_y": dy}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gradient_is_the_slope(seed: int) -> None:
    """Of sum(y * d_y) in f64, along a random direction of each weight."""
    graph = random_training_graph(seed, 1.0)
    weights = {name: value.astype(np.float64) for name, value in values(graph).items()}
    learned = [name for name in weights if name != FREQUENCIES]
    differentiate(find_function(graph.module, "train_step"), learned)
    graph.module.verify()
    given = inputs(np.float64)

    def run(changed: dict[str, np.ndarray]) -> tuple[Any, ...]:
        return evaluate(graph.module, "train_step", list(given.values()), Environment({**weights, **changed}))

    def total(changed: dict[str, np.ndarray]) -> float:
        return float((run(changed)[0][:LIVE] * given["d_y"][:LIVE]).sum())

    rng, eps = np.random.default_rng(9), 1e-6
    for name, gradient in zip(learned, run({})[1:], strict=True):
        direction = rng.standard_normal(gradient.shape)
        up, down = (total({name: weights[name] + sign * eps * direction}) for sign in (1, -1))
        size = float(np.abs(gradient * direction).sum())
        assert abs((up - down) / (2 * eps) - float((gradient * direction).sum())) <= 1e-6 * size, name


def results(seed: int, budget: float, stage: str) -> dict[str, np.ndarray]:
    """y and the gradients, added to ones."""
    program = random_training_program(seed, budget)
    module = program.module(stage)
    weights = {name: value.copy() for name, value in program.weights.items()}
    weights |= {f"grad.{name}": np.ones_like(weights[name]) for name in weights if name != FREQUENCIES}
    given = inputs(np.float32)
    if stage in ("differentiated", "fused", "kernels"):
        y = evaluate(module, "train_step", list(given.values()), Environment(weights))[0]
    else:
        y = np.full((ROWS, D), np.nan, np.float32)
        evaluate_rt(module, "train_step", [*given.values(), y], Environment(weights))
    return {"y": y[:LIVE]} | {name: value for name, value in weights.items() if name.startswith("grad.")}


@pytest.mark.parametrize("budget", [1.0, 0.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_stage_means_the_gradient(seed: int, budget: float) -> None:
    want = results(seed, 1.0, "differentiated")
    for stage in ("kernels", "scheduled"):
        for name, got in results(seed, budget, stage).items():
            exact = want[name].astype(np.float64)
            error = float(((got - exact) ** 2).sum())
            assert error <= NMSE * float((exact**2).sum()), f"{stage}: {name}"
