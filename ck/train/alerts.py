"""What goes wrong in a run, seen before the update: no number, a spike in the loss, a dead gradient.

    not a number     the loss or the gradient's norm is NaN or infinite
    spike            loss > mean + K * max(std, |mean| / 100) over the last W losses; not before there are W
    dead gradient    the norm is below 1e-12, or a tensor's own norm is exactly 0

W is 50 and K is 6 unless told otherwise. The hundredth of the mean keeps a loss that has stopped moving from
counting as a spike when it moves again. Losses of skipped steps do not join the W.

Policy `stop`: the first alert ends the run. Policy `skip`: the update is not applied, and the 10th skip in a
row ends the run, for a run that skips everything trains nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ck.errors import GateError, InternalError

Kind = Literal["not_a_number", "spike", "dead_gradient"]
Decision = Literal["ok", "skip", "stop"]
Policy = Literal["stop", "skip"]

WINDOW = 50
DEVIATIONS = 6.0
DEAD_NORM = 1e-12
SKIP_LIMIT = 10


@dataclass(frozen=True)
class Alert:
    """One thing that went wrong at one step."""

    kind: Kind
    step: int
    message: str


class Alerts:
    """Judges every step of a run.

    `state` and `restore` carry it over a checkpoint, so that a resumed run decides as the straight one does.
    """

    def __init__(self, policy: Policy = "stop", window: int = WINDOW, deviations: float = DEVIATIONS) -> None:
        self.policy = policy
        self.window = window
        self.deviations = deviations
        # What the last decision was made on.
        self.found: tuple[Alert, ...] = ()
        self._losses: list[float] = []
        self._skipped = 0

    def decide(
        self, step: int, loss: float, grad_norm: float, tensor_norms: Mapping[str, float] | None = None
    ) -> Decision:
        """Whether the update of `step` is to be applied ("ok"), left out ("skip"), or the run ended ("stop").

        grad_norm is the norm before clipping; tensor_norms, where known, those of single gradients. `found`
        then says why. After "stop" raise `error(advice)`.
        """
        self.found = tuple(self._look(step, loss, grad_norm, tensor_norms or {}))
        if not self.found:
            self._losses = [*self._losses, loss][-self.window :]
            self._skipped = 0
            return "ok"
        self._skipped += 1
        return "skip" if self.policy == "skip" and self._skipped < SKIP_LIMIT else "stop"

    def error(self, advice: str) -> GateError:
        """What ends the run after "stop"; advice: what was saved, and how to go on."""
        if not self.found:
            raise InternalError("alerts: error() is for a step that was stopped")
        first, *more = self.found
        again = f" in {self._skipped} steps in a row" if self._skipped > 1 else ""
        others = "".join(f"; {alert.message}" for alert in more)
        return GateError(f"step {first.step}: {first.message}{others}{again}; {advice}")

    def state(self) -> dict[str, Any]:
        """What `restore` takes: plain JSON."""
        return {"losses": list(self._losses), "skipped": self._skipped}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; the window and the policy stay this object's own."""
        self._losses = [float(loss) for loss in state["losses"]][-self.window :]
        self._skipped = int(state["skipped"])

    def _look(self, step: int, loss: float, grad_norm: float, norms: Mapping[str, float]) -> list[Alert]:
        if not math.isfinite(loss):
            return [Alert("not_a_number", step, f"the loss must be a finite number, found {loss}")]
        if not math.isfinite(grad_norm):
            culprits = [name for name, norm in norms.items() if not math.isfinite(norm)]
            where = f", first in {culprits[0]}" if culprits else ""
            message = f"the gradient's norm must be a finite number, found {grad_norm}{where}"
            return [Alert("not_a_number", step, message)]
        found = [self._spike(step, loss), _dead(step, grad_norm, norms)]
        return [alert for alert in found if alert]

    def _spike(self, step: int, loss: float) -> Alert | None:
        if len(self._losses) < self.window:
            return None
        mean = math.fsum(self._losses) / self.window
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in self._losses) / self.window)
        limit = mean + self.deviations * max(std, abs(mean) / 100)
        if loss <= limit:
            return None
        message = f"the loss must be at most {limit:.6g} after the last {self.window} steps, found {loss:.6g}"
        return Alert("spike", step, message)


def _dead(step: int, grad_norm: float, norms: Mapping[str, float]) -> Alert | None:
    if grad_norm < DEAD_NORM:
        message = f"the gradient's norm must be at least {DEAD_NORM:g}, found {grad_norm:g}"
        return Alert("dead_gradient", step, message)
    dead = [name for name, norm in norms.items() if norm == 0]
    if not dead:
        return None
    more = f" and of {len(dead) - 1} more" if len(dead) > 1 else ""
    message = f"every gradient must differ from 0, that of {dead[0]}{more} is all zeros"
    return Alert("dead_gradient", step, message)
