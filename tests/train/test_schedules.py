"""Learning rates, held against the schedulers of transformers, which torch's LambdaLR steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ck.errors import UsageError
from ck.train.schedules import decay_length, learning_rate

TOTAL = 60


@dataclass(frozen=True)
class Config:
    schedule: str = "cosine"
    warmup: int = 0
    min_lr_ratio: float = 0.0
    decay_steps: int | None = None
    lr: float = 3e-4


def rates(config: Config) -> list[float]:
    return [learning_rate(step, TOTAL, config) for step in range(1, TOTAL + 1)]


def reference(make: Callable[..., Any], **options: Any) -> list[float]:
    """The rate that each of TOTAL updates is made with."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=Config.lr)
    scheduler = make(optimizer, **options)
    found = []
    for _ in range(TOTAL):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def assert_equal(found: list[float], expected: list[float]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=0), (found, expected)


@pytest.mark.oracle
@pytest.mark.parametrize("warmup", [0, 1, 7, TOTAL])
def test_as_transformers(warmup: int) -> None:
    from transformers import optimization

    both = {"num_warmup_steps": warmup, "num_training_steps": TOTAL}
    constant = reference(optimization.get_constant_schedule_with_warmup, num_warmup_steps=warmup)
    assert_equal(rates(Config("constant", warmup)), constant)
    assert_equal(
        rates(Config("linear", warmup)), reference(optimization.get_linear_schedule_with_warmup, **both)
    )
    assert_equal(
        rates(Config("cosine", warmup)), reference(optimization.get_cosine_schedule_with_warmup, **both)
    )
    with_minimum = optimization.get_cosine_with_min_lr_schedule_with_warmup
    expected = reference(with_minimum, **both, min_lr_rate=0.1)
    assert_equal(rates(Config("cosine", warmup, 0.1)), expected)


@pytest.mark.oracle
@pytest.mark.parametrize(("warmup", "decay"), [(0, 1), (7, 20), (7, TOTAL - 7), (0, TOTAL)])
@pytest.mark.parametrize("low", [0.0, 0.1])
def test_wsd_as_transformers(warmup: int, decay: int, low: float) -> None:
    from transformers import get_wsd_schedule

    options = {"num_warmup_steps": warmup, "num_decay_steps": decay, "num_training_steps": TOTAL}
    expected = reference(get_wsd_schedule, **options, min_lr_ratio=low)
    assert_equal(rates(Config("wsd", warmup, low, decay)), expected)


def test_step_1_is_the_first_update() -> None:
    assert rates(Config("constant", warmup=4, lr=1.0))[:6] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert rates(Config("constant"))[0] == Config.lr


@pytest.mark.parametrize("name", ["linear", "cosine", "wsd"])
def test_the_lowest_rate(name: str) -> None:
    config = Config(name, min_lr_ratio=0.25, lr=1.0)
    assert min(rates(config)) > 0.25
    # The rate falls to the share itself after the last step, and stays there.
    after = [learning_rate(TOTAL + more, TOTAL, config) for more in (1, 2, 100)]
    assert after == [0.25] * 3


def test_wsd_falls_in_the_last_tenth() -> None:
    config = Config("wsd", lr=1.0)
    assert decay_length(TOTAL, config) == 6
    assert decay_length(5, config) == 1
    assert [rate < 1 for rate in rates(config)] == [False] * 55 + [True] * 5


def test_what_does_not_fit_is_refused() -> None:
    config = Config("wsd", warmup=50, decay_steps=11)
    with pytest.raises(UsageError, match="must fit into the 60 steps of the run, found 50 and 11; shorten"):
        learning_rate(1, TOTAL, config)
    with pytest.raises(UsageError, match="--warmup: must be at most the 60 steps of the run, found 61"):
        learning_rate(1, TOTAL, replace(config, schedule="constant", warmup=61))
