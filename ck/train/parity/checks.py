"""The comparison: ck and PyTorch train side by side, from the same weights, on the same batches.

    loss curve        every step; limits where the configuration is the canary's
    first gradients   every tensor at step 1, against transformers' own parameters
    parameters        every tensor after the last step; the canary's limit likewise
    states            every moment of the optimizer after the last step, reported
    step parity       at steps 1, 10, 50 and 200 (steps.py)

The canary is f32, AdamW, lr 3e-4 constant, betas 0.9 and 0.95, eps 1e-8, decay 0.1, clip 1, accumulation 4,
compared over 200 steps. Elsewhere PyTorch may drift from itself, and step parity alone decides. A bf16 run is
compared with PyTorch whose products have bf16 factors; that has no limits, so nothing there passes. A model
with recurrent layers is compared with PyTorch's f64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ck.runtime.trainable import Trainable
from ck.train.batches import BatchStream
from ck.train.config import TrainConfig
from ck.train.parity.figures import (
    Check,
    Figure,
    cosines,
    greatest,
    not_compared,
    relatives,
    worst,
)
from ck.train.parity.peer import Peer
from ck.train.parity.pytorch import Arithmetic
from ck.train.parity.steps import (
    RELATIVE,
    STEPS,
    Step,
    StepParity,
    Tensors,
    copies,
    record_step,
    take_step,
    window_targets,
)
from ck.train.schedules import learning_rate
from ck.train.setup import Prepared
from ck.train.trainer import hyper_of

CANARY_STEPS = 200
COSINE = 1e-6
LOSS_MAX, LOSS_MEAN, PARAMETER_MAX = 1e-4, 5e-5, 1e-4
BF16 = "the limits are those of f32"


@dataclass(frozen=True)
class Comparison:
    """What was compared, and for a search the first step and the first that failed step parity."""

    steps: int
    losses: list[float]
    peer_losses: list[float]
    checks: list[Check]
    first: Step
    failed: Step | None
    failed_check: Check | None


def _arithmetic(prepared: Prepared, is_f32: bool) -> Arithmetic:
    """What PyTorch computes in, side by side with ck.

    Its f32 has no digit of the slope of a decay that forgets nearly everything: there it is f64.
    """
    if not is_f32:
        return "bf16"
    return "f64" if any(prepared.template.hp.recurrent_layers) else "f32"


def why_no_canary(config: TrainConfig, steps: int) -> str | None:
    """Why the canary's limits do not apply; None where they do."""
    optim, run = config.optim, config.run
    if run.dtype != "f32":
        return BF16
    wanted = {
        "optimizer": (optim.optimizer, "adamw"),
        "lr": (optim.lr, 3e-4),
        "schedule": (optim.schedule, "constant"),
        "warmup": (optim.warmup, 0),
        "beta1": (optim.beta1, 0.9),
        "beta2": (optim.beta2, 0.95),
        "eps": (optim.eps, 1e-8),
        "weight_decay": (optim.weight_decay, 0.1),
        "max_grad_norm": (optim.max_grad_norm, 1.0),
        "grad_accum": (run.grad_accum, 4),
        "steps compared": (steps, CANARY_STEPS),
    }
    other = [f"{name} {found}" for name, (found, want) in wanted.items() if found != want]
    return f"limits are the canary's, this run has {', '.join(other)}" if other else None


def compare(
    config: TrainConfig, prepared: Prepared, trainable: Trainable, steps: int, say: Callable[[str], None]
) -> Comparison:
    """Train `trainable`, which has the first weights, and PyTorch for `steps` steps and compare them.

    Raises MachineError without PyTorch, UnsupportedError for a model that transformers does not have.
    """
    return _SideBySide(config, prepared, trainable, say).run(steps)


class _SideBySide:
    def __init__(
        self, config: TrainConfig, prepared: Prepared, trainable: Trainable, say: Callable[[str], None]
    ) -> None:
        self.config, self.prepared, self.trainable, self.say = config, prepared, trainable, say
        run = config.run
        self.is_f32 = run.dtype == "f32"
        self.peer = Peer(prepared.template, config.optim, _arithmetic(prepared, self.is_f32))
        self.peer.load(trainable.parameters, {}, 0)
        self.parity = StepParity(prepared.template, config.optim) if self.is_f32 else None
        self.stream = BatchStream(prepared.data, run.seq_len, run.batch, run.seed)
        self.losses: list[float] = []
        self.peer_losses: list[float] = []
        self.checks: list[Check] = []
        self.first: Step | None = None
        self.failed: Step | None = None
        self.failed_check: Check | None = None

    def run(self, steps: int) -> Comparison:
        for number in range(1, steps + 1):
            self._step(number)
            self.say(f"parity: step {number}/{steps}")
        if not self.is_f32:
            names = ("gradients, relative", "states, relative")
            self.checks.append(not_compared("step parity", names, BF16))
        assert self.first is not None
        checks = [self._curve(steps), *self.checks, *self._ends(steps)]
        failed = self.failed, self.failed_check
        return Comparison(steps, self.losses, self.peer_losses, checks, self.first, *failed)

    def _step(self, number: int) -> None:
        batches = self.stream.next(self.config.run.grad_accum)
        total = self.prepared.total_steps
        rate, hyper = learning_rate(number, total, self.config.optim), hyper_of(self.config, total, number)
        if number in STEPS:
            step = record_step(self.trainable, batches, rate, hyper, number)
            self.losses.append(step.loss)
        else:
            step = None
            self.losses.append(take_step(self.trainable, batches, hyper, number))
        n_targets = window_targets(batches)
        nll = sum(self.peer.accumulate(batch, 1 / n_targets) for batch in batches)
        self.peer_losses.append(nll / n_targets)
        if number == 1 and step is not None:
            self.first = step
            self.checks.append(self._first_gradients(step, self.peer.gradients()))
        self.peer.update(rate)
        if step is not None and self.parity is not None:
            self.checks.append(self.parity.check(step))
            if self.failed is None and self.checks[-1].passed is False:
                self.failed, self.failed_check = step, self.checks[-1]

    def _first_gradients(self, step: Step, theirs: Any) -> Check:
        extra, absent = self.peer.unmatched
        without = sorted(theirs.keys() ^ step.gradients.keys())
        near, angles = relatives(step.gradients, theirs), cosines(step.gradients, theirs)
        limits = (RELATIVE, COSINE, 0.0) if self.is_f32 else (None, None, None)
        reason = nearness = None if self.is_f32 else BF16
        if _arithmetic(self.prepared, self.is_f32) == "f64":
            # What PyTorch's f32 loses, ck's may lose in part: step parity at 1 has both.
            limits, nearness = (None, *limits[1:]), "to f64; step parity has the limits"
        where = ", ".join([*extra, *absent, *without]) or None
        unmatched = float(len({*extra, *absent, *without}))
        figures = (
            worst("relative", near, limits[0], nearness),
            worst("1 - cosine", angles, limits[1], reason),
            Figure("tensors not on both sides", unmatched, limits[2], where, reason),
        )
        detail = {"tensors": len(theirs), "relative": near, "1 - cosine": angles}
        return Check("gradients of step 1", figures, detail)

    def _curve(self, steps: int) -> Check:
        reason = why_no_canary(self.config, steps)
        apart = [abs(a - b) for a, b in zip(self.losses, self.peer_losses, strict=True)]
        # A loss that is no number is infinitely far.
        apart = [float("inf") if value != value else value for value in apart]
        limits = (LOSS_MAX, LOSS_MEAN) if reason is None else (None, None)
        at = f"step {apart.index(max(apart)) + 1}"
        figures = (
            Figure("max |difference|", max(apart), limits[0], at, reason),
            Figure("mean |difference|", sum(apart) / steps, limits[1], None, reason),
        )
        return Check("loss curve", figures, {"ck": self.losses, "torch": self.peer_losses})

    def _ends(self, steps: int) -> list[Check]:
        reason = why_no_canary(self.config, steps)
        limit = PARAMETER_MAX if reason is None else None
        name = f"after step {steps}"
        ours, states = copies(self.trainable.parameters), copies(self.trainable.optimizer_state)
        return [
            _end(f"parameters {name}", ours, self.peer.parameters(), limit, reason),
            _end(f"states {name}", states, self.peer.states(), None, "reported"),
        ]


def _end(name: str, ours: Tensors, theirs: Any, limit: float | None, reason: str | None) -> Check:
    apart, near = greatest(ours, theirs), relatives(ours, theirs)
    figures = (
        worst("max |difference|", apart, limit, reason),
        worst("relative", near, None, "reported"),
    )
    return Check(name, figures, {"max |difference|": apart, "relative": near})
