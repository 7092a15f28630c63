"""A whole run in PyTorch: the same first weights, batches, schedule and dev data as ck's."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ck.runtime.library import thread_count
from ck.train.batches import BatchStream, dev_batches, dev_bytes
from ck.train.config import TrainConfig
from ck.train.parity.peer import Peer
from ck.train.parity.pytorch import torch_threads
from ck.train.parity.steps import window_targets
from ck.train.schedules import learning_rate
from ck.train.setup import Prepared


@dataclass(frozen=True)
class TorchRun:
    """Losses of every step, nats a token; the dev figures after the last, None without dev data."""

    losses: list[float]
    dev_loss: float | None
    dev_bits_per_byte: float | None


def torch_run(
    config: TrainConfig,
    prepared: Prepared,
    steps: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TorchRun:
    """Train the run's model in PyTorch for `steps` steps, by default all, and score the dev data.

    Raises MachineError without PyTorch, UnsupportedError for a model that transformers does not have.
    """
    run, total = config.run, prepared.total_steps
    count = total if steps is None else steps
    peer = Peer(prepared.template, config.optim, "f32" if run.dtype == "f32" else "bf16")
    peer.load(prepared.first_weights(config), {}, 0)
    stream = BatchStream(prepared.data, run.seq_len, run.batch, run.seed)
    losses: list[float] = []
    with torch_threads(thread_count(run.threads)):
        for number in range(1, count + 1):
            batches = stream.next(run.grad_accum)
            n_targets = window_targets(batches)
            nll = sum(peer.accumulate(batch, 1 / n_targets) for batch in batches)
            peer.update(learning_rate(number, total, config.optim))
            losses.append(nll / n_targets)
            say(f"PyTorch: step {number}/{count}, loss {losses[-1]:.4f}")
        return TorchRun(losses, *_dev(peer, prepared, config))


def _dev(peer: Peer, prepared: Prepared, config: TrainConfig) -> tuple[float | None, float | None]:
    """Mean loss over the dev data and bits a byte of its text."""
    total, count = 0.0, 0
    for batch in dev_batches(prepared.data, config.run.seq_len, config.run.batch):
        total += peer.evaluate(batch)
        count += batch.n_targets
    n_bytes = dev_bytes(prepared.data)
    return (total / count, total / math.log(2) / n_bytes) if count and n_bytes else (None, None)
