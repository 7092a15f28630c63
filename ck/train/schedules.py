"""Learning rates by step: a linear warm-up, then a shape.

    s = step - 1,  W warm-up steps,  S all steps,  m the lowest rate as a share of lr
    s < W       lr * s / W                                     wsd: lr * (m + (1 - m) * s / W)
    constant    lr
    linear      lr * (m + (1 - m) * (1 - p))                   p = (s - W) / (S - W)
    cosine      lr * (m + (1 - m) * (1 + cos(pi * p)) / 2)     p likewise
    wsd         lr until the last D steps, then as cosine      p = (s - (S - D)) / D

`step` counts from 1, the first update, whose rate is torch's LambdaLR at 0: with a warm-up it is 0 (wsd:
m * lr), and lr is reached at step W + 1. p stays at 1 past the last step. With m = 0, and for cosine and wsd
with any m, these are the factors of transformers' get_*_schedule functions; their wsd warms up from m too.
Sources: Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, for cosine; Hu et al. 2024, arXiv:2404.06395,
for wsd.
"""

import math
from typing import Literal, Protocol, get_args

from ck.errors import UsageError

Schedule = Literal["constant", "linear", "cosine", "wsd"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


class ScheduleConfig(Protocol):
    """What a schedule is made of; the optim section of a run's configuration."""

    @property
    def lr(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def warmup(self) -> int: ...
    @property
    def min_lr_ratio(self) -> float: ...
    @property
    def decay_steps(self) -> int | None: ...


def learning_rate(step: int, total_steps: int, config: ScheduleConfig) -> float:
    """The learning rate of update `step`, from 1, of `total_steps`. Raises UsageError as `check_schedule`."""
    check_schedule(total_steps, config)
    return config.lr * _factor(step - 1, total_steps, config)


def decay_length(total_steps: int, config: ScheduleConfig) -> int:
    """The steps in which wsd falls: config.decay_steps, else a tenth of all, at least one."""
    return max(1, total_steps // 10) if config.decay_steps is None else config.decay_steps


def check_schedule(total_steps: int, config: ScheduleConfig) -> None:
    """Raise UsageError when warm-up and decay are longer than `total_steps`."""
    if config.warmup > total_steps:
        raise UsageError(
            f"--warmup: must be at most the {total_steps} steps of the run, found {config.warmup}; "
            "pass fewer, or more --steps"
        )
    decay = decay_length(total_steps, config)
    if config.schedule == "wsd" and config.warmup + decay > total_steps:
        raise UsageError(
            f"optim.decay_steps: warm-up and decay must fit into the {total_steps} steps of the run, found "
            f"{config.warmup} and {decay}; shorten one of them"
        )


def _factor(done: int, total_steps: int, config: ScheduleConfig) -> float:
    low = config.min_lr_ratio
    if done < config.warmup:
        start = low if config.schedule == "wsd" else 0.0
        return done / config.warmup * (1 - start) + start
    begin = config.warmup
    if config.schedule == "wsd":
        begin = total_steps - decay_length(total_steps, config)
    fallen = min(1.0, max(0, done - begin) / max(1, total_steps - begin))
    match config.schedule:
        case "constant":
            return 1.0
        case "linear":
            return (1 - fallen) * (1 - low) + low
        case _:
            return 0.5 * (1 + math.cos(math.pi * fallen)) * (1 - low) + low
