"""The gradients of every family against PyTorch's, every tensor, for few rows and many, by both backends."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ck
from ck.backend.backends import BACKENDS
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.template import Template
from ck.runtime.trainable import Trainable, compile_trainable
from ck.train.config import OptimConfig
from ck.train.parity.figures import cosines, norm, relatives
from ck.train.parity.peer import Peer
from tests.train.parity_runs import packed
from tests.train.small_runs import documents

pytestmark = pytest.mark.oracle

# DESIGN, section 9.
RELATIVE, COSINE = 1e-5, 1e-6
# Of a gradient that is exactly 0: a few roundings of f32 of what cancels, as a share of all gradients.
NOTHING = 1e-6
# Around a block of rows, and several blocks.
LENGTHS = (1, 63, 64, 65, 300)
# Three key/value heads of 80, a width that 32 divides and 64 does not; see the window below.
ODD: dict[str, Any] = {
    "layers": 2, "embed_dim": 96, "hidden_dim": 160, "num_heads": 6, "num_kv_heads": 3, "head_dim": 80,
    "vocab_size": 1003, "context_len": 300,
}  # fmt: skip
CASES = (*ARCHITECTURES, "nanbeige")


def model_of(name: str) -> Template:
    """The template in these sizes; a window, where the family has one, in the first of two layers."""
    made = ck.template(name, **ODD)
    window = {"sliding_window": 37, "window_pattern": 2}
    return ck.template(name, **ODD, **window) if made.hp.sliding_window else made


def gradients(ours: Trainable, rows: Any) -> dict[str, np.ndarray]:
    """The gradients of the sum of losses, copies."""
    ours.zero_gradients()
    ours.accumulate(rows, 1.0)
    return {name: values.copy() for name, values in ours.gradients.items()}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_pytorchs(name: str, measured: Callable[[str], None]) -> None:
    model = model_of(name)
    rng = np.random.default_rng(0)
    weights = {
        tensor: values + np.float32(0.1) * rng.standard_normal(values.shape, np.float32)
        for tensor, values in model.initial_weights().items()
    }
    by_backend = [
        compile_trainable(model, 1, 300, weights=weights, threads=1, backend=each) for each in BACKENDS
    ]
    side = Peer(model, OptimConfig(), "f64")
    side.load(weights, {}, 0)
    # Every tensor of either side is one of the other.
    assert side.unmatched == ([], [])
    assert len(model.shapes) == len(side.named)
    worst, turned = 0.0, 0.0
    for n in LENGTHS:
        rows = documents([n], seed=3)
        rows.targets[0] = 5
        side.optimizer.zero_grad()
        side.accumulate(packed(rows, 0, n), 1.0)
        want = side.gradients()
        assert want.keys() == model.shapes.keys()
        found = [gradients(ours, rows) for ours in by_backend]
        for tensor in model.shapes:
            assert all(np.array_equal(found[0][tensor], other[tensor]) for other in found[1:]), tensor
        whole = math.hypot(*map(norm, want.values()))
        # Of one row, q, k and their norms and biases have none: the softmax of one score is 1.
        none = {tensor for tensor, values in want.items() if norm(values) < 1e-12 * whole}
        assert bool(none) == (n == 1)
        assert max((norm(found[0][tensor]) for tensor in none), default=0.0) <= NOTHING * whole
        there = {tensor: values for tensor, values in want.items() if tensor not in none}
        worst = max(worst, *relatives(found[0], there).values())
        turned = max(turned, *cosines(found[0], there).values())
    measured(f"gradients {name}: relative {worst:.1e}, 1 - cosine {turned:.1e}, {len(model.shapes)} tensors")
    assert worst <= RELATIVE
    assert turned <= COSINE
