"""`ck parity`: the comparison of a whole run, and its report.

reports/parity.json: {schema_version, run, passed, steps, dtype, backend, versions, checks: [{name, passed,
figures, detail}], search}. A figure is {name, value, limit, where, reason, passed}; what was not compared has
the value null and what is not judged the limit null, with the reason, and neither counts as a pass.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from ck import __version__
from ck.errors import GateError, UnsupportedError
from ck.runtime.library import isa_path, thread_count
from ck.runtime.trainable import Trainable, compile_trainable
from ck.train.checkpoints import Checkpoints
from ck.train.config import TrainConfig, load_config
from ck.train.metrics import read_metrics
from ck.train.parity.checks import CANARY_STEPS, Comparison, compare
from ck.train.parity.figures import Check, Figure, not_compared, verdict
from ck.train.parity.pytorch import pytorch, torch_threads
from ck.train.parity.search import Search, search
from ck.train.rundir import RunDirectory, disk_errors, read_json
from ck.train.schedules import learning_rate
from ck.train.setup import Prepared, program_options, reopen

Say = Callable[[str], None]
FILE = "reports/parity.json"
# The check that is no comparison with PyTorch.
OWN = "the run's own losses"


@dataclass(frozen=True)
class ParityReport:
    """What `ck parity` found. `passed` is None when nothing was judged."""

    path: Path
    run: Path
    steps: int
    dtype: str
    backend: str
    versions: dict[str, str]
    checks: tuple[Check, ...]
    search: Search | None

    @property
    def passed(self) -> bool | None:
        """False when a check failed, None when nothing of PyTorch's was judged."""
        failed = any(check.passed is False for check in self.checks)
        return False if failed else verdict(check.passed for check in self.checks if check.name != OWN)

    def to_json(self) -> dict[str, Any]:
        """As plain data; numbers that JSON does not have are texts."""
        checks = [check_json(check) for check in self.checks]
        plain = {
            "schema_version": 1,
            "run": str(self.run),
            "passed": self.passed,
            "steps": self.steps,
            "dtype": self.dtype,
            "backend": self.backend,
            "versions": self.versions,
            "checks": checks,
            "search": None if self.search is None else self.search.to_json(),
        }
        return _plain(plain)

    def rows(self) -> list[list[str]]:
        """The table, a row a figure."""
        table = [["check", "figure", "value", "limit", "", "where"]]
        words = {True: "ok", False: "FAILED", None: "-"}
        for check in self.checks:
            for figure in check.figures:
                limit = "" if figure.limit is None else f"{figure.limit:g}"
                value = "null" if figure.value is None else f"{figure.value:.3g}"
                note = figure.where or figure.reason or ""
                table.append([check.name, figure.name, value, limit, words[figure.passed], note])
        return table

    def summary(self) -> str:
        """One line."""
        judged = [check for check in self.checks if check.passed is not None]
        if self.passed is None:
            return f"{self.run}: nothing was judged, {self.checks[0].figures[0].reason}"
        if self.passed:
            return f"{self.run}: {self.steps} steps agree with PyTorch in {len(judged)} checks"
        failed = [check for check in judged if check.passed is False]
        first = next(figure for figure in failed[0].figures if figure.passed is False)
        return (
            f"{self.run}: {failed[0].name}, {first.name} must be at most {first.limit:g}, "
            f"found {_number(first)}; failed: {', '.join(check.name for check in failed)}; {self._culprit()}"
        )

    def _culprit(self) -> str:
        if self.search is None or self.search.culprit is None:
            return "no op departs on its own: see the report"
        return f"first: {self.search.culprit}"

    def require(self, passed_only: bool = False) -> None:
        """Raise GateError when a check failed; with `passed_only` also when none was judged."""
        if self.passed is False or (passed_only and self.passed is None):
            raise GateError(f"parity: {self.summary()}")


def _number(figure: Figure) -> str:
    return "nothing" if figure.value is None else f"{figure.value:.3g}"


def check_json(check: Check) -> dict[str, Any]:
    """A check as plain data; numbers that JSON does not have are texts."""
    figures = [{**asdict(figure), "passed": figure.passed} for figure in check.figures]
    return _plain({"name": check.name, "passed": check.passed, "figures": figures, "detail": check.detail})


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast("Sequence[Any]", value)]
    return value


def parity(
    name: str, say: Say, *, steps: int | None = None, threads: int | None = None, backend: str | None = None
) -> ParityReport:
    """Compare run `name` with PyTorch over its first steps, 200 at most unless told, and write the report.

    Raises UsageError when there is no such run, MachineError without PyTorch, UnsupportedError for a model
    that transformers does not have. A failed check is in the report.
    """
    torch = pytorch()
    run = RunDirectory.open(name)
    config = load_config(run.path / "config.toml", {"backend": backend})
    n_threads = thread_count(config.run.threads if threads is None else threads)
    if config.lora.rank:
        raise UnsupportedError(
            f"{run.path}: parity takes runs that train all weights, this one trains adapters"
        )
    prepared = reopen(run, config, needs_base=True)
    count = min(prepared.total_steps, CANARY_STEPS if steps is None else steps)
    found: Search | None = None
    with torch_threads(n_threads):
        trainable = _compile(config, prepared, n_threads, say)
        comparison = compare(config, prepared, trainable, count, say)
        checks = [*comparison.checks, _replay(run, config, prepared, comparison)]
        if verdict(check.passed for check in checks) is False and config.run.dtype == "f32":
            found = search(config, prepared, comparison, trainable.program.backend, say)
    versions = {"ck": __version__, "torch": torch.__version__, "transformers": _transformers()}
    path = run.path / FILE
    made_by = trainable.program.backend.name
    report = ParityReport(path, run.path, count, config.run.dtype, made_by, versions, tuple(checks), found)
    with disk_errors(path):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    run.write_json(FILE, report.to_json())
    return report


def _compile(config: TrainConfig, prepared: Prepared, threads: int, say: Say) -> Trainable:
    return compile_trainable(
        prepared.template,
        config.run.batch,
        config.run.seq_len,
        weights=prepared.first_weights(config),
        threads=threads,
        progress=lambda stage: say(f"compiling: {stage}"),
        **program_options(config),
    )


def _transformers() -> str:
    from importlib.metadata import version

    return version("transformers")


def _replay(run: RunDirectory, config: TrainConfig, prepared: Prepared, made: Comparison) -> Check:
    """Whether the run that was trained is the one that was compared: its losses, bit for bit."""
    name, figure = OWN, "steps with another loss"
    lines = [line for line in read_metrics(run) if "loss" in line and line["step"] <= made.steps]
    rates = [learning_rate(number, prepared.total_steps, config.optim) for number in range(1, made.steps + 1)]
    why = _why_another(run, made.steps, len(lines))
    if why is None and any(line["lr"] != rate for line, rate in zip(lines, rates, strict=True)):
        why = "the run had other learning rates: its length was changed"
    if why is not None:
        return not_compared(name, [figure], why)
    other = [line["step"] for line, loss in zip(lines, made.losses, strict=True) if line["loss"] != loss]
    where = f"first at step {other[0]}" if other else None
    return Check(name, (Figure(figure, len(other), 0, where),))


def _why_another(run: RunDirectory, steps: int, done: int) -> str | None:
    """Why a run's losses need not be those of its configuration on this machine; None when they must."""
    record: dict[str, Any] = run.read_json("run.json")
    newest = max(Checkpoints(run).steps(), default=0)
    state: dict[str, Any] = read_json(Checkpoints(run).path(newest) / "state.json") if newest else {}
    here = {"ck": __version__, "isa_path": isa_path()}
    there = {"ck": record["ck"], "isa_path": record["machine"]["isa_path"]}
    if done < steps:
        return f"the run has done {done} of {steps} steps"
    if here != there:
        return f"the run was trained with {there}, here is {here}"
    if any(key.startswith("optim.") for change in record.get("changes", []) for key in change):
        return "the run's optimizer was changed at a resume"
    if state and state["record"]["updates"] != newest:
        return "the run skipped updates"
    return None
