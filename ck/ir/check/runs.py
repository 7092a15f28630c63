"""One function of a module, of any form, executed on one case: what it gives, and on request every value.

Results are numbered, gradients called after their weights; states that the function writes are results too:
weights, and the caches. Rows past the live ones are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import IndexType, MemRefType, ModuleOp, TensorType
from xdsl.ir import Operation, SSAValue
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from ck.errors import CkError, InternalError
from ck.ir.check.cases import Call, Case
from ck.ir.check.inputs import Inputs, generator
from ck.ir.check.states import caches_of, first_touches, written_arguments, written_weights
from ck.ir.evaluate import Environment, Kept, evaluate, find_function
from ck.ir.functions import symbol_names
from ck.ir.op import Array
from ck.ir.rt.evaluate import evaluate_rt
from ck.ir.types import is_buffer, is_tensor, shape

Observer = Callable[[SSAValue, Operation, Any], None]
GRADIENTS = "ck.gradients"


class NotRun(Exception):
    """Why a function cannot be executed."""


@dataclass
class Outcome:
    """What a function gave: arrays by name."""

    values: dict[str, Array] = field(default_factory=dict[str, Array])


@dataclass(frozen=True)
class Output:
    """Something a function gives: its key, its value in the function, and how many rows a token has."""

    key: str
    value: SSAValue
    by_rows: bool


def entries(module: ModuleOp) -> dict[str, func.FuncOp]:
    """Functions that can be run alone: public ones of fixed sizes whose first argument has rows."""
    return {
        op.sym_name.data: op
        for op in module.ops
        if isinstance(op, func.FuncOp) and op.sym_visibility is None and _is_entry(op)
    }


def _is_entry(function: func.FuncOp) -> bool:
    if len(function.body.blocks) != 1:
        return False
    types = [argument.type for argument in function.body.block.args]
    buffers = [of for of in types if isa(of, TensorType) or isa(of, MemRefType)]
    n_indices = sum(isinstance(of, IndexType) for of in types)
    if len(buffers) + n_indices != len(types) or not buffers or types[0] is not buffers[0]:
        return False
    return all(min(shape(of), default=0) > 0 for of in buffers)


def on_tensors(function: func.FuncOp) -> bool:
    """Whether a function is not in buffers yet."""
    return is_tensor(function.body.block.args[0].type)


def outputs(module: ModuleOp, function: func.FuncOp) -> list[Output]:
    """What `function` gives beside states, in order: what it returns, or the buffers that it fills."""
    block = function.body.block
    if on_tensors(function):
        last = block.last_op
        return _named(function, list(last.operands) if isinstance(last, func.ReturnOp) else [])
    first, written = first_touches(module, block), written_arguments(module, block)
    made = [arg for arg in block.args if first.get(arg) == "writes"]
    kept = [arg for arg in block.args if arg in written and arg not in made]
    others = [Output(f"argument {arg.name_hint or arg.index}", arg, _has_rows(function, arg)) for arg in kept]
    return [*_named(function, made), *others]


def _named(function: func.FuncOp, values: Sequence[SSAValue]) -> list[Output]:
    names = symbol_names(function.attributes.get(GRADIENTS))
    results, gradients = values[: len(values) - len(names)], values[len(values) - len(names) :]
    numbered = [Output(f"result {at}", v, _has_rows(function, v)) for at, v in enumerate(results)]
    return [*numbered, *(Output(f"grad.{name}", v, False) for name, v in zip(names, gradients, strict=False))]


def _has_rows(function: func.FuncOp, value: SSAValue) -> bool:
    capacity = shape(function.body.block.args[0].type)[0]
    of = value.type
    has_rows = (is_tensor(of) or is_buffer(of)) and len(shape(of)) == 2
    return has_rows and shape(of)[0] % capacity == 0


def named_cache(name: str, kept: Kept) -> dict[str, Array]:
    """What a cache holds, by names that say what it is."""
    if isinstance(kept, tuple):
        return {f"keys of @{name}": kept[0], f"values of @{name}": kept[1]}
    return {f"state of @{name}": kept}


def doubled(value: Any) -> Any:
    """f32 numbers in f64; others as they are."""
    return value.astype(np.float64) if getattr(value, "dtype", None) == np.float32 else value


@dataclass(frozen=True)
class Exact:
    """Runs in f64, the `draw`-th but the first with weights moved by about `step` of themselves."""

    draw: int = 0
    step: float = 0.0

    def weight(self, name: str, values: Array) -> Array:
        """A weight as the run has it."""
        if self.step == 0:
            return doubled(values)
        z = generator(name, values.shape, self.draw).standard_normal(values.shape)
        return doubled(values) * (1 + self.step * z)

    def kept(self, cache: Kept) -> Kept:
        """A cache as the run has it; keys and values of f16 stay."""
        return (doubled(cache[0]), doubled(cache[1])) if isinstance(cache, tuple) else doubled(cache)


@dataclass
class Runner:
    """Executes functions on the cases of `inputs`."""

    inputs: Inputs

    def run(
        self,
        module: ModuleOp,
        name: str,
        case: Case,
        observe: Observer | None = None,
        exact: Exact | None = None,
    ) -> Outcome:
        """All that function `name` gives in the calls of `case`; with `exact` in f64, on tensors alone.

        Raises NotRun with the reason.
        """
        function = find_function(module, name)
        try:
            return self._run(module, function, case, observe, exact)
        except (CkError, InternalError, VerifyException, KeyError, AssertionError) as error:
            raise NotRun(" ".join(str(error.args[0] if error.args else error).split())) from error
        except Exception as error:
            # Not every module whose ops verify makes sense, and a wrong pass may leave anything.
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise NotRun(f"its interpreter raised {what}") from error

    def _run(
        self,
        module: ModuleOp,
        function: func.FuncOp,
        case: Case,
        observe: Observer | None,
        exact: Exact | None,
    ) -> Outcome:
        environment = self.environment(module, function, case, exact)
        environment.observe = observe
        outcome = Outcome()
        for number, call in enumerate(case.calls):
            suffix = f" of call {number + 1}" if number else ""
            for output, value in zip(
                outputs(module, function),
                self._call(module, function, call, case, environment, exact),
                strict=True,
            ):
                outcome.values[output.key + suffix] = live_rows(function, output, value, call)
        for state in written_weights(module, function):
            outcome.values[f"@{state}"] = environment.weights[state]
        for cache, kept in environment.caches.items():
            outcome.values |= named_cache(cache, kept)
        return outcome

    def environment(
        self,
        module: ModuleOp,
        function: func.FuncOp,
        case: Case,
        exact: Exact | None = None,
    ) -> Environment:
        """Weights and caches as the first call finds them; what `function` writes is its own copy."""
        weights = _Weights(self.inputs, case, {}, exact)
        weights.written |= {name: weights[name].copy() for name in written_weights(module, function)}
        caches = {name: self.inputs.cache(name, of, case) for name, of in caches_of(module).items()}
        if exact is not None:
            caches = {name: exact.kept(kept) for name, kept in caches.items()}
        return Environment(weights, caches if case.filled else {})

    def arguments(self, module: ModuleOp, function: func.FuncOp, call: Call, case: Case) -> list[Array | int]:
        """Values for the arguments of one call; buffers that the function fills hold NaN."""
        capacity = shape(function.body.block.args[0].type)[0]
        first = {} if on_tensors(function) else first_touches(module, function.body.block)
        return [
            np.full(shape(arg.type), np.nan, np.float32)
            if first.get(arg) == "writes"
            else self.inputs.argument(arg, call, case, capacity)
            for arg in function.body.block.args
        ]

    def _call(
        self,
        module: ModuleOp,
        function: func.FuncOp,
        call: Call,
        case: Case,
        environment: Environment,
        exact: Exact | None,
    ) -> list[Array]:
        args = self.arguments(module, function, call, case)
        if exact is not None:
            args = [doubled(value) for value in args]
        name = function.sym_name.data
        if on_tensors(function):
            return [np.asarray(value) for value in evaluate(module, name, args, environment)]
        evaluate_rt(module, name, args, environment)
        given: dict[SSAValue, Any] = dict(zip(function.body.block.args, args, strict=True))
        return [np.asarray(given[output.value]) for output in outputs(module, function)]


def live_rows(function: func.FuncOp, output: Output, value: Array, call: Call) -> Array:
    """The rows of an output that are live after `call`."""
    if not output.by_rows:
        return value
    return value[: call.n * (len(value) // shape(function.body.block.args[0].type)[0])]


@dataclass
class _Weights(Mapping[str, Array]):
    """The weights of a case, made when they are asked for, with those that are written in front."""

    inputs: Inputs
    case: Case
    written: dict[str, Array]
    exact: Exact | None = None

    def __getitem__(self, name: str) -> Array:
        if name in self.written:
            return self.written[name]
        weight = self.inputs.weight(name, self.case)
        return weight if self.exact is None else self.exact.weight(name, weight)

    def __iter__(self) -> Any:
        return iter(self.written)

    def __len__(self) -> int:
        return len(self.written)
