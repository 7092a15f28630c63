"""Runs that are compared with PyTorch, and what is in their reports."""

from typing import Any

import ck
from ck.regression.rows import packed as packed
from ck.train.parity.figures import Check, Figure
from ck.train.parity.report import ParityReport, parity
from tests.train.small_runs import options, template

# Short documents, so that every window has several; where a family has a window, one that hides something,
# and where it has recurrent layers, a layer that attends.
SETS = ("data.split=line",)
WINDOW = ("model.sliding_window=8",)
INTERVAL = ("model.attention_interval=2",)


def sets_of(family: str) -> tuple[str, ...]:
    """A family with windows gets a short one; the others refuse the key."""
    hp = template(family).hp
    return (*SETS, *(WINDOW if hp.sliding_window else ()), *(INTERVAL if hp.recurrent_layers else ()))


def trained(family: str = "llama", sets: tuple[str, ...] = (), watch: Any = None, **changes: Any) -> None:
    """The run `./run`, of a few steps."""
    given = options(**{"template": family, "steps": 3, "threads": 1, **changes})
    ck.train(run="./run", sets=(*sets_of(family), *sets), watch=watch, **given)


def compared(family: str = "llama", sets: tuple[str, ...] = (), **changes: Any) -> ParityReport:
    """A run and its comparison."""
    trained(family, sets, **changes)
    return parity("./run", lambda _: None)


def figure(report: ParityReport, check: str, name: str) -> Figure:
    """One figure of a report."""
    return next(f for c in report.checks if c.name == check for f in c.figures if f.name == name)


def check_of(report: ParityReport, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


class Said:
    """A `Watch` that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def on_step(self, report: Any) -> None:
        pass

    def on_dev(self, *figures: Any) -> None:
        pass
