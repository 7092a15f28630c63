"""Step parity: from ck's own state PyTorch does one step, in f32 and in f64.

Over many steps PyTorch drifts from itself where the learning rate is high; one step from the same state tells
a wrong gradient from a different rounding on any run. Gradients and new moments are those of each side's own
backward pass. Where ck's are further from f64 than they may be, PyTorch's own distance is drawn again, DRAWS
times in all, with weights moved by a rounding: one draw of noise may be small. The update is compared apart,
from ck's gradients on all sides: Adam divides by the root of the second moment, which makes noise in a tiny
gradient as large as a whole step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.frontend.template import Template
from ck.runtime.trainable import Hyper, Trainable
from ck.train.batches import Batch
from ck.train.config import OptimConfig
from ck.train.parity.figures import (
    ULP,
    Check,
    Figure,
    distances,
    excess,
    excesses,
    floor_of,
    nearer_relatives,
    norm,
    worst,
)
from ck.train.parity.peer import Peer
from ck.train.trainer import rows_of

Tensors = dict[str, NDArray[np.float32]]
STEPS = (1, 10, 50, 200)
RELATIVE, EXCESS = 1e-5, 4.0
DRAWS = 8
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
        sides = [
            _Side("gradients", step.gradients, of_f32["gradients"], of_f64["gradients"]),
            _Side("states", step.new_states, of_f32["states"], of_f64["states"]),
        ]
        n_draws = 1
        while n_draws < DRAWS and not all(side.passed for side in sides):
            moved = _moved(step, n_draws)
            again = [_one_step(peer, moved) for peer in (self._f32, self._f64)]
            for side in sides:
                side.draw(again[0][side.name], again[1][side.name])
            n_draws += 1
        figures = [
            Figure("loss, |ck - f64|", abs(step.loss - of_f64["loss"]), reason="reported"),
            *(figure for side in sides for figure in side.figures()),
            *self._update(step),
        ]
        detail = {"step": step.number, "draws": n_draws, "tensors": sides[0].detail | sides[1].detail}
        return Check(f"step parity at {step.number}", tuple(figures), detail)

    def _update(self, step: Step) -> list[Figure]:
        of_f32, of_f64 = (_one_update(peer, step) for peer in (self._f32, self._f64))
        both = (("weights", step.new_weights), ("states", step.new_states))
        return [
            worst(
                f"{UPDATE} {name}, excess over f32",
                excesses(ours, distances(of_f32[name], of_f64[name]), of_f64[name]),
                EXCESS,
            )
            for name, ours in both
        ]


class _Side:
    """Tensors of one kind: ck's, PyTorch's in f32 and in f64, and how far PyTorch is from itself."""

    def __init__(self, name: str, ours: Tensors, theirs: Any, exact: Any) -> None:
        self.name, self.ours, self.theirs, self.exact = name, ours, theirs, exact
        self.own = distances(theirs, exact)
        self.near = nearer_relatives(ours, theirs, exact)

    def draw(self, theirs: Any, exact: Any) -> None:
        """Take in another draw of PyTorch's distance."""
        for name, value in distances(theirs, exact).items():
            self.own[name] = max(self.own[name], value)

    @property
    def detail(self) -> dict[str, Any]:
        """Every tensor's figures."""
        return {f"{self.name}, relative": self.near, f"{self.name}, excess over f32": self._excesses}

    @property
    def passed(self) -> bool:
        """Whether no figure is beyond its limit."""
        return not any(figure.passed is False for figure in self.figures())

    @property
    def _excesses(self) -> dict[str, float]:
        return excesses(self.ours, self.own, self.exact)

    def figures(self) -> list[Figure]:
        """What the check says of this kind."""
        beyond = self._excesses
        # A sum that cancels may leave f32 with little: the slope of a decay that forgets everything is one.
        floor = floor_of(self.exact)
        lost = {name for name, own in self.own.items() if own > RELATIVE * max(norm(self.exact[name]), floor)}
        kept = {name: value for name, value in self.near.items() if name not in lost}
        missing = sorted(self.theirs.keys() ^ self.ours.keys())
        return [
            worst(f"{self.name}, relative", kept, RELATIVE),
            *self._of_lost({name: beyond[name] for name in beyond if name in lost}),
            Figure(f"{self.name}, excess over f32", excess(self.ours, self.theirs, self.exact), EXCESS),
            worst(f"{self.name}, excess of one tensor", beyond, None, "reported"),
            Figure(f"{self.name} not on both sides", len(missing), 0, ", ".join(missing) or None),
        ]

    def _of_lost(self, beyond: dict[str, float]) -> list[Figure]:
        """Where PyTorch's f32 is further from f64 than RELATIVE, ck's may be EXCESS times as far."""
        return [worst(f"{self.name}, excess where f32 is lost", beyond, EXCESS)] if beyond else []


def _moved(step: Step, seed: int) -> Step:
    """The step from weights that are a rounding away."""
    random = np.random.default_rng(seed)
    moved = {
        name: (values * (1 + np.float32(ULP) * random.choice([-1, 0, 1], values.shape))).astype(np.float32)
        for name, values in step.weights.items()
    }
    return replace(step, weights=moved)


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
