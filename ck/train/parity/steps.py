"""Step parity: from ck's own state PyTorch does one step, in f32 and in f64.

Over many steps PyTorch drifts from itself where the learning rate is high; one step from the same state tells
a wrong gradient from a different rounding on any run. Gradients and new moments are those of each side's own
backward pass. The update is compared apart, from ck's gradients on all sides: Adam divides by the root of the
second moment, which makes noise in a tiny gradient as large as a whole step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.frontend.template import Template
from ck.runtime.trainable import Hyper, Trainable
from ck.train.batches import Batch
from ck.train.config import OptimConfig
from ck.train.parity.figures import Check, Figure, excess, excesses, nearer_relatives, relatives, worst
from ck.train.parity.peer import Peer
from ck.train.trainer import rows_of

Tensors = dict[str, NDArray[np.float32]]
STEPS = (1, 10, 50, 200)
RELATIVE, EXCESS = 1e-5, 4.0
# What the figures of the update begin with.
UPDATE = "update's"


@dataclass(frozen=True)
class Step:
    """One step of ck: what it began with, what it did.

    number     counts updates, from 1
    lr         the learning rate that the configuration means, whatever `hyper` made of it
    gradients  before clipping
    """

    number: int
    batches: tuple[Batch, ...]
    lr: float
    hyper: Hyper
    weights: Tensors
    states: Tensors
    loss: float
    gradients: Tensors
    norm: float
    new_weights: Tensors
    new_states: Tensors


def copies(tensors: Tensors) -> Tensors:
    """Tensors that stay as they are now."""
    return {name: values.copy() for name, values in tensors.items()}


def window_targets(batches: Sequence[Batch]) -> int:
    """The scored targets of a step."""
    return sum(batch.n_targets for batch in batches)


def take_step(trainable: Trainable, batches: Sequence[Batch], hyper: Hyper, number: int) -> float:
    """One step of ck as the trainer does it; returns the loss."""
    return _accumulate_and(trainable, batches, hyper, number, None)


def record_step(trainable: Trainable, batches: Sequence[Batch], lr: float, hyper: Hyper, number: int) -> Step:
    """The same, with everything written down."""
    begun = copies(trainable.parameters), copies(trainable.optimizer_state)
    kept: dict[str, Any] = {}
    loss = _accumulate_and(trainable, batches, hyper, number, kept)
    ended = copies(trainable.parameters), copies(trainable.optimizer_state)
    return Step(number, tuple(batches), lr, hyper, *begun, loss, kept["gradients"], kept["norm"], *ended)


def _accumulate_and(
    trainable: Trainable, batches: Sequence[Batch], hyper: Hyper, number: int, kept: dict[str, Any] | None
) -> float:
    n_targets = window_targets(batches)
    total = 0.0
    for batch in batches:
        total += float(trainable.accumulate(rows_of(batch), 1 / n_targets).sum(dtype=np.float64))
    if kept is not None:
        kept["gradients"] = copies(trainable.gradients)
    norm = trainable.grad_norm(hyper)
    trainable.update(hyper, number)
    if kept is not None:
        kept["norm"] = norm
    return total / n_targets


class StepParity:
    """PyTorch in f32 and in f64, for any number of steps."""

    def __init__(self, template: Template, optim: OptimConfig) -> None:
        self._f32, self._f64 = Peer(template, optim), Peer(template, optim, "f64")

    def check(self, step: Step) -> Check:
        """Compare one step of ck."""
        of_f32, of_f64 = (_one_step(peer, step) for peer in (self._f32, self._f64))
        update_f32, update_f64 = (_one_update(peer, step) for peer in (self._f32, self._f64))
        gradients, states = _Sides("gradients"), _Sides("states")
        figures = [
            Figure("loss, |ck - f64|", abs(step.loss - of_f64["loss"]), reason="reported"),
            *gradients.figures(step.gradients, of_f32["gradients"], of_f64["gradients"]),
            *states.figures(step.new_states, of_f32["states"], of_f64["states"]),
            worst(
                f"{UPDATE} weights, excess over f32",
                excesses(step.new_weights, update_f32["weights"], update_f64["weights"]),
                EXCESS,
            ),
            worst(
                f"{UPDATE} states, excess over f32",
                excesses(step.new_states, update_f32["states"], update_f64["states"]),
                EXCESS,
            ),
        ]
        detail = {"step": step.number, "tensors": gradients.detail | states.detail}
        return Check(f"step parity at {step.number}", tuple(figures), detail)


class _Sides:
    """Tensors of one kind on all sides."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.detail: dict[str, Any] = {}

    def figures(self, ours: Tensors, theirs: Any, exact: Any) -> list[Figure]:
        near, beyond = nearer_relatives(ours, theirs, exact), excesses(ours, theirs, exact)
        # A sum that cancels may leave f32 with little: the slope of a decay that forgets everything is one.
        lost = {name for name, value in relatives(theirs, exact).items() if value > RELATIVE}
        kept = {name: value for name, value in near.items() if name not in lost}
        self.detail = {f"{self.name}, relative": near, f"{self.name}, excess over f32": beyond}
        together = excess(ours, theirs, exact)
        missing = sorted(theirs.keys() ^ ours.keys())
        return [
            worst(f"{self.name}, relative", kept, RELATIVE),
            *self._of_lost({name: beyond[name] for name in beyond if name in lost}),
            Figure(f"{self.name}, excess over f32", together, EXCESS),
            worst(f"{self.name}, excess of one tensor", beyond, None, "reported"),
            Figure(f"{self.name} not on both sides", len(missing), 0, ", ".join(missing) or None),
        ]

    def _of_lost(self, beyond: dict[str, float]) -> list[Figure]:
        """Where PyTorch's f32 is further from f64 than RELATIVE, ck's may be EXCESS times as far."""
        return [worst(f"{self.name}, excess where f32 is lost", beyond, EXCESS)] if beyond else []


def _one_step(peer: Peer, step: Step) -> dict[str, Any]:
    """PyTorch's own step from where ck's began."""
    peer.load(step.weights, step.states, step.number - 1)
    n_targets = window_targets(step.batches)
    total = sum(peer.accumulate(batch, 1 / n_targets) for batch in step.batches)
    gradients = peer.gradients()
    peer.update(step.lr)
    return {"loss": total / n_targets, "gradients": gradients, "states": peer.states()}


def _one_update(peer: Peer, step: Step) -> dict[str, Any]:
    """PyTorch's update by ck's gradients."""
    peer.load(step.weights, step.states, step.number - 1)
    peer.load_gradients(step.gradients)
    peer.update(step.lr)
    return {"weights": peer.parameters(), "states": peer.states()}
