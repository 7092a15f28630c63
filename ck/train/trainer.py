"""The training loop: batches in, updates, metrics and checkpoints out.

One step is a window of micro-batches: each adds the gradient of its share of the window's mean loss, then the
norm is taken, the alerts judge, and the update is applied. Everything that the next step depends on is in the
checkpoint, so a run that was killed and resumed is the run that was not, bit for bit.
"""

import math
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import numpy as np

from ck.errors import CkError, GateError
from ck.frontend.adapters import names_of
from ck.runtime.trainable import Hyper, Rows, Trainable
from ck.train.alerts import Alerts
from ck.train.batches import Batch, BatchStream, dev_batches, dev_bytes
from ck.train.checkpoints import Checkpoint, Checkpoints, all_finite
from ck.train.config import TrainConfig
from ck.train.metrics import MetricsLog
from ck.train.rundir import RunDirectory
from ck.train.schedules import learning_rate
from ck.train.setup import Prepared

# What `Trainer._record` puts into a checkpoint.
RECORD_KEYS = ("updates", "cursor", "tokens", "seed", "alerts", "tokenizer_sha256")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(CkError):
    """A signal ended the run after a step whose state is saved."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


@dataclass(frozen=True)
class StepReport:
    """What one update did. done: the updates of this process, `wall_seconds` is the time they took."""

    step: int
    total_steps: int
    done: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    tokens_per_second: float
    wall_seconds: float

    @property
    def seconds_left(self) -> float:
        """An estimate, from the time so far."""
        return self.wall_seconds / max(1, self.done) * (self.total_steps - self.step)


class Watch(Protocol):
    """Who looks on."""

    def say(self, text: str) -> None:
        """Something a person should read."""
        ...

    def on_step(self, report: StepReport) -> None:
        """After each update."""
        ...

    def on_dev(self, step: int, loss: float, bits_per_byte: float) -> None:
        """After each pass over the dev data."""
        ...


@dataclass
class Progress:
    """What a run is at, beside its tensors; all of it is in a checkpoint's record.

    step     windows done, skipped ones included;  updates  those that were applied
    """

    step: int = 0
    updates: int = 0
    dev_loss: float | None = None


class Trainer:
    """One run at work. The caller holds the run's lock."""

    def __init__(
        self,
        run: RunDirectory,
        config: TrainConfig,
        prepared: Prepared,
        trainable: Trainable,
        watch: Watch,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.run, self.config, self.prepared = run, config, prepared
        self.trainable, self.watch = trainable, watch
        self.progress = Progress()
        self.alerts = Alerts(config.run.alerts, config.run.spike_window, config.run.spike_deviations)
        self.checkpoints = Checkpoints(run, config.run.keep_last)
        cursor = None if checkpoint is None else checkpoint.record["cursor"]
        sizes = (config.run.seq_len, config.run.batch, config.run.seed)
        self.stream = BatchStream(prepared.data, *sizes, cursor)
        self._signal: int | None = None
        if checkpoint is not None:
            self._restore(checkpoint)
        # The state at the end of the last step, from which an alert's checkpoint is made.
        self._last = self._record()

    def _restore(self, checkpoint: Checkpoint) -> None:
        record = checkpoint.record
        self.trainable.load(checkpoint.weights, checkpoint.optimizer)
        self.progress = Progress(checkpoint.step, record["updates"], checkpoint.dev_loss)
        self.alerts.restore(record["alerts"])

    def _record(self) -> dict[str, Any]:
        return {
            "updates": self.progress.updates,
            "cursor": self.stream.cursor,
            "tokens": self.stream.tokens_seen,
            "seed": self.config.run.seed,
            "alerts": self.alerts.state(),
            "tokenizer_sha256": self.prepared.tokenizer.sha256,
        }

    def train(self) -> None:
        """Go on to the last step. Raises Interrupted after a signal, GateError when an alert ends the run."""
        config, total = self.config.run, self.prepared.total_steps
        with MetricsLog(self.run) as log, self._signals():
            log.truncate_after(self.progress.step)
            began, first = time.monotonic(), self.progress.step
            while self.progress.step < total:
                self._step(log, began, first)
                step = self.progress.step
                if step % config.eval_every == 0 or step == total:
                    self._evaluate(log)
                number = self._signal
                if step % config.save_every == 0 or step == total or number is not None:
                    self._save(log, step, self._last)
                # After the last step there is nothing to go on with.
                if number is not None and step < total:
                    raise Interrupted(
                        number, f"step {step} is saved; go on with: ck resume {self.run.argument}"
                    )

    def _step(self, log: MetricsLog, began: float, first: int) -> None:
        started, step = time.monotonic(), self.progress.step + 1
        batches = self.stream.next(self.config.run.grad_accum)
        n_targets = sum(batch.n_targets for batch in batches)
        loss = 0.0
        for batch in batches:
            nll = self.trainable.accumulate(rows_of(batch), 1 / n_targets)
            loss += float(nll.sum(dtype=np.float64))
        loss /= n_targets
        hyper = hyper_of(self.config, self.prepared.total_steps, step)
        norm = self.trainable.grad_norm(hyper)
        decision = self.alerts.decide(step, loss, norm, self._tensor_norms(step))
        if decision == "stop":
            self.trainable.zero_gradients()
            raise self.alerts.error(self._keep_before_alert(log))
        if decision == "ok":
            self.progress.updates += 1
            self.trainable.update(hyper, self.progress.updates)
        else:
            self.trainable.zero_gradients()
            self.watch.say(f"step {step} skipped: {'; '.join(alert.message for alert in self.alerts.found)}")
        self.progress.step = step
        now = time.monotonic()
        report = StepReport(
            step=step,
            total_steps=self.prepared.total_steps,
            done=step - first,
            loss=loss,
            lr=hyper.lr,
            grad_norm=norm,
            tokens=self.stream.tokens_seen,
            tokens_per_second=n_targets / max(now - started, 1e-9),
            wall_seconds=now - began,
        )
        fields = ("loss", "lr", "grad_norm", "tokens", "tokens_per_second", "wall_seconds")
        log.log_step(step, **{name: getattr(report, name) for name in fields})
        self._last = self._record()
        self.watch.on_step(report)

    def _keep_before_alert(self, log: MetricsLog) -> str:
        """Save the state before the step that an alert stopped, if its weights are finite; says what to do.

        The same state meets the same batch when it is resumed, so an earlier one is named. None is pruned.
        """
        step, weights = self.progress.step, self.trainable.parameters
        if not any(values.any() for values in weights.values() if values.ndim > 1):
            return "every matrix is zero: --init zeros trains nothing; start anew with another --init"
        if not all_finite(weights):
            return f"the weights of step {step} are not finite and not saved; {self._way_back(step)}"
        self._save(log, step, self._last, prune=False)
        advice = f"step {step} is saved; {self._way_back(step)}"
        if self.alerts.policy == "skip":
            return advice
        return f"{advice}, or leave the batch out with ck resume {self.run.argument} --set run.alerts=skip"

    def _way_back(self, step: int) -> str:
        earlier = self.checkpoints.newest_finite(before=step)
        if earlier is None:
            return "start anew with a lower --lr"
        return f"go back with ck resume {self.run.argument} --step {earlier} and a lower --lr"

    def _tensor_norms(self, step: int) -> dict[str, float] | None:
        """Norms of single gradients, at step 1 and where the run is evaluated: a dead tensor shows."""
        if step != 1 and step % self.config.run.eval_every:
            return None
        # While B is zero, nothing flows to A.
        resting = {names_of(name)[0] for name in self._adapted} if self.progress.updates == 0 else set[str]()
        gradients = self.trainable.gradients.items()
        return {name: float(np.linalg.norm(g)) for name, g in gradients if name not in resting}

    @property
    def _adapted(self) -> tuple[str, ...]:
        adapters = self.prepared.template.adapters
        return () if adapters is None else adapters.weights

    def _evaluate(self, log: MetricsLog) -> None:
        found = evaluate(self.trainable, self.prepared, self.config)
        if found is None:
            return
        loss, bits = found
        self.progress.dev_loss = loss
        log.log_dev(self.progress.step, dev_loss=loss, dev_bits_per_byte=bits)
        self.watch.on_dev(self.progress.step, loss, bits)

    def save_first(self) -> None:
        """Save the first weights as step 0, in place of all that a start which failed has left."""
        self.checkpoints.discard_after(-1)
        self.checkpoints.save(self._checkpoint(0, self._last, None))

    def _save(self, log: MetricsLog, step: int, record: dict[str, Any], prune: bool = True) -> None:
        """Save the state after `step`. Raises GateError when a weight of it is not finite."""
        if not all_finite(self.trainable.parameters):
            raise GateError(
                f"step {step}: the weights after it must be finite, they are not, and are not saved; "
                f"{self._way_back(step)}"
            )
        log.sync()
        is_fresh = step % self.config.run.eval_every == 0 or step == self.prepared.total_steps
        dev_loss = self.progress.dev_loss if is_fresh else None
        self.checkpoints.save(self._checkpoint(step, record, dev_loss), prune=prune)

    def _checkpoint(self, step: int, record: dict[str, Any], dev_loss: float | None) -> Checkpoint:
        tensors = self.trainable.parameters, self.trainable.optimizer_state
        return Checkpoint(step, *tensors, record, dev_loss)

    @contextmanager
    def _signals(self) -> Generator[None]:
        """Let a first SIGINT or SIGTERM end the run after the step under way, a second one at once."""

        def note(number: int, frame: FrameType | None) -> None:
            self._signal = number
            for each, old in before.items():
                signal.signal(each, old)

        try:
            before = {number: signal.signal(number, note) for number in SIGNALS}
        except ValueError:
            # Not the main thread: signals are the caller's.
            yield
            return
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)


def hyper_of(config: TrainConfig, total_steps: int, step: int) -> Hyper:
    """What the update of `step`, from 1, takes."""
    names = ("beta1", "beta2", "eps", "weight_decay", "max_grad_norm", "momentum")
    rate = learning_rate(step, total_steps, config.optim)
    return Hyper(lr=rate, **{name: getattr(config.optim, name) for name in names})


def rows_of(batch: Batch) -> Rows:
    """A batch as the program takes it."""
    flat = (array.reshape(-1) for array in (batch.tokens, batch.targets, batch.positions, batch.starts))
    return Rows(*flat)


def evaluate(trainable: Trainable, prepared: Prepared, config: TrainConfig) -> tuple[float, float] | None:
    """Mean loss over the dev data, nats a token, and bits a byte of its text; None where there is none."""
    total, count = 0.0, 0
    for batch in dev_batches(prepared.data, config.run.seq_len, config.run.batch):
        total += float(trainable.evaluate(rows_of(batch)).sum(dtype=np.float64))
        count += batch.n_targets
    n_bytes = dev_bytes(prepared.data)
    return (total / count, total / math.log(2) / n_bytes) if count and n_bytes else None


class Quiet:
    """A `Watch` that looks away."""

    def say(self, text: str) -> None:
        """Nothing."""

    def on_step(self, report: StepReport) -> None:
        """Nothing."""

    def on_dev(self, step: int, loss: float, bits_per_byte: float) -> None:
        """Nothing."""
