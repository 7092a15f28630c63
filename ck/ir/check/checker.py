"""Execute a module before and after each pass, on the same inputs, and compare at the tier the pass promises.

    checker = Checker(module)                   executes every entry on every case
    for kind in passes:
        kind().apply(context, module)
        lines = checker.after(kind, module)     executes again, compares; raises CheckFailure

A pass class says `TIER`, what it promises of values that were there before; one that makes new ones, as
ck-differentiate does, says in `JUDGE` how those are judged. After one that sets barriers, `APART`, threads
must not meet; nor after any other where barriers kept them apart before.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from ck.ir.check.cases import Case, cases_of
from ck.ir.check.failure import CheckFailure, Finding, first_value
from ck.ir.check.inputs import Draw, Inputs, draw_weight
from ck.ir.check.noise import Noise
from ck.ir.check.races import can_be_walked, first_race, kept_apart
from ck.ir.check.runs import NotRun, Outcome, Runner, entries
from ck.ir.check.tier import BITS, Difference, Tier, compare, worst
from ck.ir.op import Array

Outcomes = dict[tuple[str, Case], Outcome | str]


@dataclass(frozen=True)
class Line:
    """What the check of one entry came to: the error of its worst value, or why nothing was compared.

    `judged` says that the entry is new and does what such an entry has to.
    """

    entry: str
    tier: Tier
    error: float = 0.0
    reason: str = ""
    judged: bool = False

    @property
    def compared(self) -> bool:
        """Whether values were compared."""
        return not self.reason

    def __str__(self) -> str:
        if self.reason:
            return f"{f'@{self.entry} ' if self.entry else ''}not compared: {self.reason}"
        if self.judged:
            return f"@{self.entry} is new and does what it must"
        return f"@{self.entry} differs by {self.error:.1e} of {self.tier.bound:.0e}"


class Checker:
    """Holds what a module gave before the next pass.

    draw   makes a weight from its name and type; given  weights that are known
    """

    def __init__(
        self, module: ModuleOp, draw: Draw = draw_weight, given: Mapping[str, Array] | None = None
    ) -> None:
        self.inputs = Inputs(module, draw, given or {})
        self.runner = Runner(self.inputs)
        self._cases: dict[str, tuple[Case, ...]] = {}
        self.held = module.clone()
        self.outcomes = self._execute(module)
        self.noise = Noise(self.runner, self.held, self.outcomes)

    def cases(self, entry: str) -> tuple[Case, ...]:
        """The cases on which `entry` runs: those of the first form that had it."""
        return self._cases[entry]

    def after(self, kind: type[ModulePass], module: ModuleOp, tier: Tier | None = None) -> list[Line]:
        """Compare `module` with what it was before pass `kind`; a line for each entry.

        `tier` is by default the pass's own. Raises CheckFailure at the first entry that differs by more.
        """
        promised: Tier = tier or getattr(kind, "TIER", BITS)
        self.inputs.learn(module)
        promised = self.inputs.where(promised)
        if module.body.is_structurally_equivalent(self.held.body):
            lines = [Line(name, promised) for name in entries(module)]
            return [line if self._ran(line.entry) else self._not_run(line) for line in lines]
        before, old = self.outcomes, self.held
        after = self._execute(module)
        lines = list(self._compared(kind, module, promised, before, after))
        for name in entries(module):
            self._keep_apart(kind, module, name)
        self.held, self.outcomes = module.clone(), after
        if Noise.is_measurable(self.held):
            self.noise = Noise(self.runner, self.held, after)
        judge: Judge | None = getattr(kind, "JUDGE", None)
        judged = judge(Judged(kind, old, module, self.runner, before, after)) if judge else set[str]()
        return [replace(line, reason="", judged=True) if line.entry in judged else line for line in lines]

    def _execute(self, module: ModuleOp) -> Outcomes:
        found: Outcomes = {}
        for name, function in entries(module).items():
            if name not in self._cases:
                self._cases[name] = cases_of(function, module)
            for case in self._cases[name]:
                try:
                    found[name, case] = self.runner.run(module, name, case)
                except NotRun as error:
                    found[name, case] = str(error)
        return found

    def _ran(self, name: str) -> bool:
        return all(isinstance(self.outcomes[name, case], Outcome) for case in self._cases[name])

    def _not_run(self, line: Line) -> Line:
        reasons = (self.outcomes[line.entry, case] for case in self._cases[line.entry])
        reason = next(found for found in reasons if isinstance(found, str))
        return Line(line.entry, line.tier, reason=reason)

    def _compared(
        self,
        kind: type[ModulePass],
        module: ModuleOp,
        tier: Tier,
        before: Outcomes,
        after: Outcomes,
    ) -> Iterator[Line]:
        for name in dict.fromkeys(entry for entry, _ in (*before, *after)):
            found: list[Difference] = []
            reason = ""
            for case in self._cases[name]:
                old, new = before.get((name, case), "it is new"), after.get((name, case), "it is gone")
                if isinstance(old, str) or isinstance(new, str):
                    reason = old if isinstance(old, str) else str(new)
                    if not isinstance(old, str):
                        self._gone(kind, module, name, case, reason)
                    break
                adds = hasattr(kind, "JUDGE")
                for key, difference in differences(old, new, tier, case, adds):
                    if not difference.agrees and not self.noise.allows(name, case, key, (old, new), tier):
                        raise self._failure(kind, module, name, case, tier, key, difference)
                    found.append(replace(difference, agrees=True))
            if not found and not reason:
                reason = "it gives nothing"
            yield Line(name, tier, worst(found).error, reason)

    def _gone(self, kind: type[ModulePass], module: ModuleOp, name: str, case: Case, reason: str) -> None:
        """Raise when what ran before the pass does not after it."""
        text = f"{kind.name}: @{name} ran before the pass and does not after it: {reason}"
        raise CheckFailure(Finding(kind.name, name, str(case), text=text), str(self.held))

    def _failure(
        self,
        kind: type[ModulePass],
        module: ModuleOp,
        name: str,
        case: Case,
        tier: Tier,
        key: str,
        difference: Difference,
    ) -> CheckFailure:
        first = first_value(self.runner, (self.held, module), name, case, tier)
        finding = Finding(kind.name, name, str(case), key, difference, tier)
        return CheckFailure(finding if first is None else finding.at(first), str(self.held))

    def _keep_apart(self, kind: type[ModulePass], module: ModuleOp, name: str) -> None:
        """Prove that threads which run a scheduled entry do not meet. Raises CheckFailure."""
        if not can_be_walked(entries(module)[name]):
            return
        if not getattr(kind, "APART", False) and not kept_apart(self.held, name):
            return
        race = first_race(module, name)
        if race is not None:
            finding = Finding(kind.name, name, text=f"{kind.name}: in @{name} {race}", op=race.op)
            raise CheckFailure(finding, str(self.held))


@dataclass(frozen=True)
class Judged:
    """What a judge of new values gets: the pass, the module before and after it, and what both gave."""

    kind: type[ModulePass]
    old: ModuleOp
    new: ModuleOp
    runner: Runner
    before: Outcomes
    after: Outcomes

    def fail(self, entry: str, case: str, text: str) -> CheckFailure:
        """The failure that says `text`."""
        finding = Finding(self.kind.name, entry, case, text=f"{self.kind.name}: @{entry}: {text}")
        return CheckFailure(finding, str(self.old))


# Raises CheckFailure; returns the new entries that it has judged.
Judge = Callable[[Judged], set[str]]


def differences(
    old: Outcome, new: Outcome, tier: Tier, case: Case, adds: bool = False
) -> Iterator[tuple[str, Difference]]:
    """Every value that `old` has, held against that of `new`; with `adds` the two may have others."""
    for key, value in old.values.items():
        if key in new.values:
            yield key, compare(value, new.values[key], tier, case.special)
        elif not adds:
            yield key, Difference(float("inf"), False, text="is gone")
    for key in new.values.keys() - old.values.keys() if not adds else ():
        yield key, Difference(float("inf"), False, text="is new")
