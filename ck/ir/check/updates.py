"""Does what ck-add-optimizer made train? Gradients are added to states, and two new entries use them.

For every case of an entry that returned gradients, `grad.<weight>` afterwards is what it was, plus them. The
entry without states of its own gives the norm of all gradients and the factor that clips it. The entry that
writes states is run from moments of zero:

    with gradients and no decay, every weight moves against its gradient, its moments away from zero, and the
    gradient is zero afterwards; nothing else is written
    with decay and no gradients, every matrix moves towards 0, or towards 1 where `ck.training` says so

So a state in the wrong place shows, whichever optimizer it is.
"""

from collections.abc import Mapping

import numpy as np

from ck.ir.check.cases import Case
from ck.ir.check.checker import Judged
from ck.ir.check.failure import CheckFailure
from ck.ir.check.inputs import HYPER_VALUES
from ck.ir.check.runs import GRADIENTS, Outcome, entries
from ck.ir.check.states import written_weights
from ck.ir.check.tier import Tier, compare
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.functions import symbol_names, training_options
from ck.ir.op import Array
from ck.ir.ops.weight import WeightOp

# f32 sums of a few numbers in another order.
SUMS = Tier(1e-11, "a sum of f32 in another order")
# `hyper` without decay and with nothing kept of the moments, and with decay, for either optimizer.
STEP = (1.0, 0.1, 0.0, 1.0, 1e-8, 0.01, 1.0, 0.0)
DECAY = (0.9, 0.1, 0.05, 0.05, 1e-8, 0.01, 1.0, 0.0)


def judge_updates(found: Judged) -> set[str]:
    """Raise CheckFailure when gradients are not accumulated, or the new entries do not train.

    Returns the new entries.
    """
    trained: dict[str, None] = {}
    for name, function in entries(found.old).items():
        names = symbol_names(function.attributes.get(GRADIENTS))
        trained |= dict.fromkeys(names)
        for entry, case in found.before:
            if entry == name:
                _accumulated(found, name, case, names)
    new = {name: function for name, function in entries(found.new).items() if name not in entries(found.old)}
    for name, function in new.items():
        if written_weights(found.new, function):
            _Update(found, name, list(trained)).judge()
        else:
            _norm(found, name, list(trained))
    return set(new)


def _accumulated(found: Judged, name: str, case: Case, trained: list[str]) -> None:
    before, after = found.before[name, case], found.after[name, case]
    if isinstance(before, str) or isinstance(after, str):
        return
    for weight in trained:
        state = f"grad.{weight}"
        if f"@{state}" not in after.values:
            raise found.fail(name, str(case), f"the gradient of @{weight} is not added to @{state}")
        wanted = found.runner.inputs.weight(state, case).astype(np.float64)
        for key, value in before.values.items():
            if key.split(" ")[0] == state:
                wanted = wanted + value
        difference = compare(wanted.astype(np.float32), after.values[f"@{state}"], SUMS, case.special)
        if not difference.agrees:
            text = f"@{state} is not what it was plus the gradient: {difference}"
            raise found.fail(name, str(case), text)


def _norm(found: Judged, name: str, trained: list[str]) -> None:
    for entry, case in found.after:
        outcome = found.after[entry, case]
        if entry != name or not isinstance(outcome, Outcome):
            continue
        gradients = [found.runner.inputs.weight(f"grad.{weight}", case) for weight in trained]
        norm = float(np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients)))
        wanted = np.array([norm, min(1.0, HYPER_VALUES[7] / (norm + 1e-6))], np.float32)
        difference = compare(wanted, outcome.values["result 0"], SUMS)
        if not difference.agrees:
            raise found.fail(name, str(case), f"norm and factor of all gradients: {difference}")


class _Update:
    """The entry that updates weights."""

    def __init__(self, found: Judged, name: str, trained: list[str]) -> None:
        self.found, self.name, self.trained = found, name, trained
        self.case = next(case for entry, case in found.after if entry == name)
        self.written = written_weights(found.new, find_function(found.new, name))
        options = training_options(found.new)
        self.ones = set(symbol_names(options.get("toward_one")))

    def judge(self) -> None:
        """Raise CheckFailure when the update does not do what the module's docstring says."""
        first = self._states(1.0)
        after = self._run(first, STEP)
        for weight in self.trained:
            g, moved = first[f"grad.{weight}"], after[weight] - first[weight]
            if np.any(moved * g > 0) or not np.any(moved):
                raise self._fail(f"@{weight} does not move against its gradient")
            if np.any(after[f"grad.{weight}"]):
                raise self._fail(f"@grad.{weight} is not zero afterwards")
            self._counted(weight)
            for moment in self._moments(weight):
                if not np.any(after[moment]):
                    raise self._fail(f"@{moment} stays zero")
        own = {
            state for weight in self.trained for state in (weight, f"grad.{weight}", *self._moments(weight))
        }
        for state in set(self.written) - own:
            raise self._fail(f"@{state} is written and belongs to no trained weight")
        self._decays()

    def _counted(self, weight: str) -> None:
        most, own = max(len(self._moments(name)) for name in self.trained), len(self._moments(weight))
        if own < most:
            raise self._fail(
                f"@{weight} has {own} state{'s' * (own != 1)} beside its gradient, others have {most}"
            )

    def _decays(self) -> None:
        first = self._states(0.0)
        after = self._run(first, DECAY)
        for weight in self.trained:
            w, toward = first[weight], float(weight in self.ones)
            moved = after[weight] - w
            if np.any(moved * (toward - w) < 0) or (w.ndim == 2 and not np.any(moved)):
                raise self._fail(f"@{weight} does not decay towards {toward:g}")

    def _moments(self, weight: str) -> list[str]:
        return [s for s in self.written if s.partition(".")[2] == weight and s != f"grad.{weight}"]

    def _states(self, gradient: float) -> dict[str, Array]:
        """Weights as they are, gradients times `gradient`, moments of zero."""
        states = {name: self.found.runner.inputs.weight(name, self.case).copy() for name in self.written}
        for name, value in states.items():
            if name not in self.trained:
                value *= gradient if name.startswith("grad.") else 0
        return states

    def _run(self, states: Mapping[str, Array], hyper: tuple[float, ...]) -> dict[str, Array]:
        function, inputs = find_function(self.found.new, self.name), self.found.runner.inputs
        read = (op.symbol_name for op in function.walk() if isinstance(op, WeightOp))
        after = {name: inputs.weight(name, self.case).copy() for name in read}
        after |= {name: value.copy() for name, value in states.items()}
        given = {
            "hyper": np.array(hyper, np.float32),
            "norm": np.array([1, 1], np.float32),
            "n": 1,
        }
        args = [given[str(argument.name_hint)] for argument in function.body.block.args]
        evaluate(self.found.new, self.name, args, Environment(after))
        return after

    def _fail(self, text: str) -> CheckFailure:
        return self.found.fail(self.name, str(self.case), text)
