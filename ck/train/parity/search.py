"""On failure: the first op whose output or gradient departs, looked for on a step that failed.

    1  forward          each op's value in f64 against transformers' module         modules.py
    2  rules            each op's gradient against differences of its reference     rules.py
    3  ck-differentiate the pass's gradients against those of the rules             rules.py
    4  backward         what flows back to each op against transformers' module     modules.py
    5  kernels          each op's compiled value against its reference              kernels.py
    6  stages           each stage of the pipeline, interpreted, against f64        stages.py
    7  update           the compiled update against its ops' references             update.py

The first search that finds something names the culprit: those after it may see its consequences. A search
takes a few rows of the failed step; the whole micro-batch where nothing shows on these.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from xdsl.utils.exceptions import VerifyException

from ck.backend.backends import Backend
from ck.ir.ops.weight import WeightOp
from ck.passes.add_optimizer import OPTIMIZERS
from ck.runtime.library import thread_count
from ck.runtime.trainable import Rows
from ck.train.config import TrainConfig
from ck.train.parity import modules, rules
from ck.train.parity.checks import Comparison
from ck.train.parity.figures import relatives
from ck.train.parity.graphs import Problem, forward, near
from ck.train.parity.kernels import compile_showing, wrong_kernels
from ck.train.parity.stages import first_wrong_stage
from ck.train.parity.steps import UPDATE, Step
from ck.train.parity.update import wrong_update
from ck.train.setup import Prepared, program_options
from ck.train.trainer import rows_of

# Rows of a first search, and the most of a second: attention's reference holds rows x rows numbers a head.
FEW, MOST = 64, 1024
PASS_LIMIT = 1e-9


@dataclass(frozen=True)
class Finding:
    """What departs: the op, the weight it is nearest to, how far off it is, and more in words."""

    search: str
    op: str
    near: str | None
    error: float
    detail: str

    def __str__(self) -> str:
        place = f" at {self.near}" if self.near else ""
        return f"{self.op}{place}: {self.detail} (off by {self.error:.3g}; found by: {self.search})"


@dataclass(frozen=True)
class Search:
    """All findings in the order of the searches, the rows that were looked at, and searches that could not
    be made with the reason."""

    step: int
    rows: int
    findings: tuple[Finding, ...]
    not_made: Mapping[str, str]

    @property
    def culprit(self) -> Finding | None:
        """The one to look at first."""
        return self.findings[0] if self.findings else None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "culprit": None if self.culprit is None else str(self.culprit)}


def search(
    config: TrainConfig,
    prepared: Prepared,
    comparison: Comparison,
    made_by: Backend,
    say: Callable[[str], None],
) -> Search:
    """Look for what departs in the first step that failed step parity, else in the first step.

    `made_by` compiled the step.
    """
    step = comparison.failed or comparison.first
    rows = rows_of(step.batches[0])
    given = program_options(config)
    options = {name: given[name] for name in ("optimizer", "decay", "dtype")}
    options["budget"] = float(given["activation_budget"])
    found = Search(step.number, 0, (), {})
    for count in dict.fromkeys((min(FEW, len(rows.tokens)), min(MOST, len(rows.tokens)))):
        problem = Problem(prepared.template, step.weights, _first(rows, count), options)
        found = _search(problem, step, config, made_by, say)
        if found.findings:
            return found
    return replace(found, findings=tuple(_another_update(options, comparison)))


def _first(rows: Rows, count: int) -> Rows:
    return Rows(*(array[:count].copy() for array in (rows.tokens, rows.targets, rows.positions, rows.starts)))


def _search(
    problem: Problem, step: Step, config: TrainConfig, made_by: Backend, say: Callable[[str], None]
) -> Search:
    ran = forward(problem)
    back = rules.walk_back(ran, problem.template.shapes)
    theirs = modules.run_modules(problem, config.optim)
    searches: dict[str, Callable[[], Iterable[Finding]]] = {
        "forward": lambda: _departure("forward", modules.first_forward(ran, theirs)),
        "rules": lambda: _rules(back),
        "ck-differentiate": lambda: _pass(problem, back),
        "backward": lambda: _departure("backward", modules.first_backward(ran, back, theirs)),
        "kernels": lambda: _kernels(problem, made_by, thread_count(config.run.threads)),
        "stages": lambda: _stages(problem),
        "update": lambda: _update(problem, step),
    }
    findings: list[Finding] = []
    not_made: dict[str, str] = {}
    for name, look in searches.items():
        say(f"parity: looking for what departs, {name}")
        try:
            findings += look()
        except VerifyException as error:
            not_made[name] = str(error)
    return Search(step.number, problem.n_rows, tuple(findings), not_made)


def _departure(search: str, found: modules.Departure | None) -> list[Finding]:
    if found is None:
        return []
    what = "value is not that" if search == "forward" else "value gets another gradient than that"
    names = ", ".join(dict.fromkeys(op.name for op in found.suspects if not isinstance(op, WeightOp)))
    detail = f"the {found.op.name}'s {what} of transformers' {found.module}"
    return [Finding(search, names or found.op.name, near(found.op), found.error, detail)]


def _rules(back: rules.Backward) -> list[Finding]:
    return [
        Finding(
            "rules",
            broken.made_by or f"the gradient of {broken.op.name}",
            near(broken.op),
            broken.error,
            f"the gradient of {broken.op.name} by %{broken.operand} is not the slope of its reference",
        )
        for broken in back.broken
    ]


def _pass(problem: Problem, back: rules.Backward) -> list[Finding]:
    apart = relatives(rules.differentiated(problem), back.gradients)
    lost = [name for name in problem.template.shapes if name not in apart]
    wrong = {name: error for name, error in apart.items() if not error <= PASS_LIMIT}
    wrong |= dict.fromkeys(lost, float("inf"))
    if not wrong:
        return []
    name = max(wrong, key=wrong.__getitem__)
    detail = "its gradient is not what the ops' rules give"
    return [Finding("ck-differentiate", "ck-differentiate", name, wrong[name], detail)]


def _kernels(problem: Problem, made_by: Backend, threads: int) -> list[Finding]:
    compiled = compile_showing(problem, made_by, threads)
    found = wrong_kernels(problem, compiled)
    return [
        Finding(
            "kernels",
            wrong.op.name,
            near(wrong.op),
            wrong.error,
            f"its compiled value %{wrong.value} is not its reference's, which allows {wrong.limit:.3g}",
        )
        for wrong in found
    ]


def _stages(problem: Problem) -> list[Finding]:
    wrong = first_wrong_stage(problem, rules.differentiated(problem))
    if wrong is None:
        return []
    detail = f"stage {wrong.stage}, interpreted, gives another gradient than f64"
    return [Finding("stages", ", ".join(wrong.passes), wrong.tensor, wrong.error, detail)]


def _update(problem: Problem, step: Step) -> list[Finding]:
    wrong = wrong_update(problem, step)
    if wrong is None:
        return []
    return [Finding("update", wrong.op, wrong.tensor, wrong.error, "the update is not its reference's")]


def _another_update(options: Mapping[str, Any], comparison: Comparison) -> list[Finding]:
    """The optimizer, where its update departs from PyTorch's although it is what its reference says."""
    figures = comparison.failed_check.figures if comparison.failed_check else ()
    wrong = next((f for f in figures if f.passed is False and f.name.startswith(UPDATE)), None)
    if wrong is None:
        return []
    op = OPTIMIZERS[str(options["optimizer"])][0].name
    detail = "the update is its reference's and not PyTorch's: look at its formula and at what it is given"
    return [Finding("update", op, wrong.where, wrong.value or 0.0, detail)]
