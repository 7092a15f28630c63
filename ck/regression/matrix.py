"""The matrix: templates x checks, a row after the other, each in a folder of its own that goes with it.

A check that ends with an error, a defect of ours among them, has failed with it. One that cannot be made,
because transformers has no such model or because an earlier failure ended the run, is null with its reason. A
machine that lacks something ends the whole run.
"""

import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ck.errors import (
    CkError,
    GateError,
    MachineError,
    ResourceError,
    UnsupportedError,
    UsageError,
)
from ck.frontend.architectures.templates import TEMPLATES
from ck.regression import inference, training
from ck.runtime.machine import available_memory_bytes
from ck.train.parity.figures import Check, Figure, not_compared, verdict
from ck.train.parity.pytorch import pytorch

Say = Callable[[str], None]
Part = Callable[[], Iterable[Check]]
MIB = 1 << 20


class Checks(Protocol):
    """The checks of one template."""

    def parts(self) -> list[tuple[tuple[str, ...], Part]]:
        """Names of checks and what makes them, in order."""
        ...


@dataclass(frozen=True)
class Profile:
    """What makes the checks of a template in a folder, and the memory that must be there before."""

    checks: Callable[[str, Path], Checks]
    floor_bytes: int


@dataclass(frozen=True)
class Kind:
    """A matrix that can be run: its columns, and how much of it."""

    columns: tuple[str, ...]
    profiles: Mapping[str, Profile]


def _training(profile: training.TrainingProfile, template: str, folder: Path) -> Checks:
    return training.TrainingChecks(template, profile, folder)


def _inference(profile: inference.InferenceProfile, template: str, folder: Path) -> Checks:
    return inference.InferenceChecks(template, profile, folder)


# Floors: twice the most that was resident.
KINDS: Mapping[str, Kind] = {
    "training": Kind(
        training.CHECKS,
        {
            "fast": Profile(partial(_training, training.FAST), 1024 * MIB),
            "full": Profile(partial(_training, training.FULL), 1536 * MIB),
        },
    ),
    "inference": Kind(
        inference.CHECKS,
        {
            "fast": Profile(partial(_inference, inference.FAST), 1024 * MIB),
            "full": Profile(partial(_inference, inference.FULL), 1024 * MIB),
        },
    ),
}


@dataclass(frozen=True)
class Row:
    """The checks of one template, as many as there are columns."""

    template: str
    checks: tuple[Check, ...]
    wall_s: float

    @property
    def passed(self) -> bool | None:
        """False when a check failed, None when none was judged."""
        return verdict(check.passed for check in self.checks)


@dataclass(frozen=True)
class Matrix:
    """What a run found."""

    kind: str
    profile: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool | None:
        """False when a check failed, None when none was judged."""
        return verdict(row.passed for row in self.rows)

    @property
    def failures(self) -> list[tuple[str, str, Figure]]:
        """Template, check and figure of everything that failed."""
        return [
            (row.template, check.name, figure)
            for row in self.rows
            for check in row.checks
            for figure in check.figures
            if figure.passed is False
        ]

    def require(self) -> None:
        """Raise GateError when a check failed, or none was judged."""
        if self.passed is None:
            raise GateError(f"regression {self.kind}: one check at least must be made, found none")
        if self.failures:
            template, check, figure = self.failures[0]
            value = "nothing" if figure.value is None else f"{figure.value:.3g}"
            where = f" ({figure.where})" if figure.where else ""
            raise GateError(
                f"regression {self.kind}: {template}, {check}, {figure.name} must be at most "
                f"{figure.limit:g}, found {value}{where}; failed in all: {len(self.failures)}"
            )


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The templates of these names; all of them for none. Raises UsageError for an unknown one."""
    wrong = [name for name in names if name not in TEMPLATES]
    if wrong:
        raise UsageError(f"--families: each is one of {', '.join(TEMPLATES)}, found {', '.join(wrong)}")
    return tuple(dict.fromkeys(names)) or tuple(TEMPLATES)


def run_matrix(
    kind: str, profile: str, templates: Sequence[str], say: Say, stop_on_fail: bool = False
) -> Matrix:
    """Run `profile` of `kind`, names of KINDS, for `templates`; `say` is told what is being done.

    Raises MachineError without PyTorch, ResourceError when the machine has less memory than that takes.
    """
    known = KINDS[kind]
    _check_memory(kind, profile, known.profiles[profile].floor_bytes)
    pytorch()
    rows: list[Row] = []
    with _quiet_transformers():
        for template in templates:
            is_over = stop_on_fail and any(row.passed is False for row in rows)
            rows.append(_row(known, known.profiles[profile], template, say, stop_on_fail, is_over))
    return Matrix(kind, profile, known.columns, tuple(rows))


@contextmanager
def _quiet_transformers() -> Generator[None]:
    """Nothing but errors from transformers, which advises what else to install."""
    log: Any = import_module("transformers").logging
    before = log.get_verbosity()
    log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(before)


def _check_memory(kind: str, profile: str, floor: int) -> None:
    found = available_memory_bytes()
    if found < floor:
        raise ResourceError(
            f"regression {kind} --{profile}: {floor // MIB} MiB of free memory are required, "
            f"found {found // MIB} MiB; close other programs"
        )


def _row(kind: Kind, profile: Profile, template: str, say: Say, stop_on_fail: bool, is_over: bool) -> Row:
    started = time.perf_counter()
    made: dict[str, Check] = {}
    with tempfile.TemporaryDirectory(prefix="ck-regression-") as folder:
        for names, part in profile.checks(template, Path(folder)).parts():
            if not is_over:
                say(f"{template}: {names[0]}")
            found = [_not_run(name) for name in names] if is_over else _made(names, part)
            made |= {check.name: check for check in found}
            is_over |= stop_on_fail and any(check.passed is False for check in found)
    wall_s = round(time.perf_counter() - started, 1)
    return Row(template, tuple(made[name] for name in kind.columns), wall_s)


def _not_run(name: str) -> Check:
    return not_compared(name, ["not run"], "an earlier check failed")


def _made(names: Sequence[str], part: Part) -> list[Check]:
    try:
        return list(part())
    except (MachineError, ResourceError):
        raise
    except UnsupportedError as error:
        return [not_compared(name, ["not compared"], str(error)) for name in names]
    except Exception as error:
        # A defect in one family leaves the others their rows.
        where = str(error) if isinstance(error, CkError) else f"{type(error).__name__}: {error}"
        detail = {"traceback": traceback.format_exception(error)}
        return [Check(name, (Figure("errors", 1, 0, where),), detail) for name in names]
