"""What a failed check says: the pass, the entry, the first value that is another one, the op that made it."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from ck.errors import GateError
from ck.ir.check.cases import Case
from ck.ir.check.runs import Runner
from ck.ir.check.tier import BITS, Difference, Tier, compare
from ck.ir.evaluate import find_function
from ck.ir.op import Array
from ck.ir.ops.weight import WeightOp
from ck.ir.rt import ops as rt
from ck.ir.types import shape


@dataclass(frozen=True)
class FirstValue:
    """The first value that differs, in the order in which the module after the pass makes them."""

    name: str
    op: str
    difference: Difference


@dataclass(frozen=True)
class Finding:
    """What was found of pass `pass_name` in one entry and case; `text` where no two values were compared."""

    pass_name: str
    entry: str
    case: str = ""
    value: str = ""
    difference: Difference = field(default_factory=lambda: Difference(float("inf"), False))
    tier: Tier = BITS
    op: str = ""
    text: str = ""

    def at(self, first: FirstValue) -> "Finding":
        """The same, of the first value that differs."""
        return replace(self, value=f"%{first.name}", difference=first.difference, op=first.op)

    def __str__(self) -> str:
        if self.text:
            return self.text
        made = f", made by: {self.op}" if self.op else ""
        error = "" if np.isinf(self.difference.error) else f", an error of {self.difference.error:.1e}"
        return (
            f"{self.pass_name} changes what @{self.entry} computes, case {self.case}: {self.value} "
            f"{self.difference}{error} where the pass promises {self.tier}{made}"
        )


class CheckFailure(GateError):
    """A pass changed what the module computes by more than it promises, or lets threads meet.

    before   the IR's text before the pass
    """

    def __init__(self, finding: Finding, before: str) -> None:
        super().__init__(str(finding))
        self.finding, self.before = finding, before
        self.pass_name, self.function, self.case = finding.pass_name, finding.entry, finding.case
        self.value, self.op = finding.value, finding.op
        self.error, self.bound = finding.difference.error, finding.tier.bound


def first_value(
    runner: Runner, modules: tuple[ModuleOp, ModuleOp], entry: str, case: Case, tier: Tier
) -> FirstValue | None:
    """The first value of the later module that is not what the value of the same name and sizes was before.

    Names that stand for several values are matched in order, where both modules have as many of them.
    """
    before, after = (_Trace(runner, module, entry, case) for module in modules)
    for key, place, op in after.order:
        old, new = before.values.get(key, []), after.values[key]
        if len(old) != len(new):
            continue
        difference = compare(old[place], new[place], tier, case.special)
        if not difference.agrees:
            return FirstValue(key[0], op, difference)
    return None


class _Trace:
    """Every named value that an entry makes in a case, in order."""

    def __init__(self, runner: Runner, module: ModuleOp, entry: str, case: Case) -> None:
        self.values: dict[tuple[str, tuple[int, ...]], list[Array]] = defaultdict(list)
        self.order: list[tuple[tuple[str, tuple[int, ...]], int, str]] = []
        self._capacity = shape(find_function(module, entry).body.block.args[0].type)[0]
        self._live = max(call.n for call in case.calls)
        runner.run(module, entry, case, self._observe)

    def _observe(self, value: SSAValue, op: Operation, given: Any) -> None:
        # What a weight holds is made by what writes it, in place: at another time in another form.
        if isinstance(op, WeightOp | rt.WeightOp):
            return
        dtype = getattr(given, "dtype", None)
        if value.name_hint is None or dtype != np.float32:
            return
        rows: Array = given
        if rows.ndim == 2 and len(rows) % self._capacity == 0:
            rows = rows[: self._live * (len(rows) // self._capacity)]
        key = (value.name_hint, rows.shape)
        self.order.append((key, len(self.values[key]), str(op).splitlines()[0]))
        self.values[key].append(rows.copy())
