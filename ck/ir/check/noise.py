"""How far rounding alone moves what a program gives: runs held against one in f64, all on tensors.

A pass that adds in another order promises a small error, and keeps the promise in its own sums. A program
may magnify what is before them: a recurrence, or a norm of a row that nearly cancels. Its noise is how far
its run in f32 is from that in f64, or one in f64 on weights moved by what is rounded (`Tier.step`), whichever
is most: one draw may be small by chance. Two forms of the program are each as far from the exact one, so up
to twice that from each other.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from ck.ir.check.cases import Case
from ck.ir.check.runs import Exact, NotRun, Outcome, Runner, entries, on_tensors
from ck.ir.check.tier import Tier, squared_rows
from ck.ir.op import Array

# Of squared distances, so four times as far as the noise: twice for the two forms, and twice for chance.
SLACK = 16
# Runs on moved weights.
DRAWS = 3


class Noise:
    """The noise of a module whose entries are on tensors, measured where it is asked for."""

    def __init__(self, runner: Runner, module: ModuleOp, outcomes: Mapping[tuple[str, Case], Any]) -> None:
        self._runner, self._module, self._outcomes = runner, module, outcomes
        self._found: dict[tuple[str, Case, float], dict[str, Array]] = {}

    @staticmethod
    def is_measurable(module: ModuleOp) -> bool:
        """Whether a module can be run in f64: buffers have types of their own."""
        return all(map(on_tensors, entries(module).values()))

    def allows(self, entry: str, case: Case, key: str, pair: tuple[Outcome, Outcome], tier: Tier) -> bool:
        """Whether the rows of a value that are beyond a tier's bound are within the noise that they have.

        A row whose own noise is small by chance is granted that of the median row, by their sizes.
        """
        noise = self._of(entry, case, tier.step).get(key) if not tier.bits else None
        before, after = (outcome.values.get(key) for outcome in pair)
        if noise is None or before is None or after is None or before.shape != after.shape:
            return False
        squares, sizes = squared_rows(before, after)
        if case.special and not tier.specials:
            squares = np.where(np.isfinite(squares), squares, 0.0)
        moved = squares > 0
        bound = tier.bound * np.maximum(sizes, sizes[moved].mean() if moved.any() else 0.0)
        typical = np.median(noise[sizes > 0] / sizes[sizes > 0]) if (sizes > 0).any() else 0.0
        granted = SLACK * np.maximum(noise, typical * sizes)
        return bool((squares <= np.maximum(bound, granted)).all())

    def _of(self, entry: str, case: Case, step: float) -> dict[str, Array]:
        if (entry, case, step) not in self._found:
            single = self._outcomes.get((entry, case))
            found = self._measure(entry, case, step, single) if isinstance(single, Outcome) else {}
            self._found[entry, case, step] = found
        return self._found[entry, case, step]

    def _measure(self, entry: str, case: Case, step: float, single: Outcome) -> dict[str, Array]:
        """Squared distances of rows, the greatest of all runs; 0 where what is not finite differs."""
        try:
            exact = self._runner.run(self._module, entry, case, exact=Exact())
            moved = [
                self._runner.run(self._module, entry, case, exact=Exact(draw, step))
                for draw in range(1, 1 + DRAWS)
            ]
        except NotRun:
            return {}
        found: dict[str, Array] = {}
        for key, value in exact.values.items():
            if value.dtype == np.float64:
                runs = [squared_rows(value, run.values[key])[0] for run in (single, *moved)]
                found[key] = np.max(
                    [np.where(np.isfinite(squares), squares, 0.0) for squares in runs], axis=0
                )
        return found
