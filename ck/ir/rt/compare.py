"""Execute a module's functions on made-up inputs before and after a pass, and compare what they give.

The inputs follow from the types and names of the first module's functions: random rows and weights, `n` the
whole capacity, `pos` 0, `starts` those of one document. Functions over tensors run by their ops' references,
functions over buffers by the interpreter of `rt`; a result that becomes an output buffer is found as the
argument after the inputs. States that a function writes are results too.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import IndexType, IntegerType, MemRefType, ModuleOp, TensorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from ck.errors import InternalError
from ck.ir.evaluate import Environment, evaluate
from ck.ir.op import Array
from ck.ir.ops.weight import WeightOp
from ck.ir.rt import ops as rt
from ck.ir.rt.evaluate import evaluate_rt
from ck.ir.types import shape

# Largest normalised mean squared error between two stages: f32 rounding, and where activations become
# integers.
EXACT = 1e-7
QUANTISED = 5e-4


@dataclass(frozen=True)
class Outcome:
    """What one function gave, or why it was not run."""

    results: tuple[Array, ...] = ()
    reason: str = ""


class Sample:
    """Inputs for the functions of a module, the same for every later form of it."""

    def __init__(self, module: ModuleOp) -> None:
        self._rng = np.random.default_rng(0)
        self._weights = {name: self._weight(of) for name, of in _weights(module).items()}
        self._rows = min((w.shape[0] for w in self._weights.values() if w.ndim == 2), default=1)
        functions = _entries(module)
        self._arguments = {name: self._inputs(function) for name, function in functions.items()}
        self._of_tensors = {name: _of_tensors(function) for name, function in functions.items()}
        self._n_results = {name: len(function.function_type.outputs) for name, function in functions.items()}

    def run(self, module: ModuleOp) -> dict[str, Outcome]:
        """Execute every function that the first module had."""
        functions = _entries(module)
        return {
            name: self._outcome(module, functions[name])
            if name in functions
            else Outcome(reason="it is gone")
            for name in self._arguments
        }

    def _outcome(self, module: ModuleOp, function: func.FuncOp) -> Outcome:
        name = function.sym_name.data
        args = [copy(value) for value in self._arguments[name]]
        weights = {name: value.copy() for name, value in self._weights.items()}
        environment = Environment(weights)
        reason = self._why_not(function)
        if reason:
            return Outcome(reason=reason)
        try:
            if _of_tensors(function):
                return Outcome((*evaluate(module, name, args, environment), *self._written(weights)))
            n_inputs = len(args)
            for argument in function.body.block.args[n_inputs:]:
                args.append(np.full(shape(argument.type), np.nan, np.float32))
            evaluate_rt(module, name, args, environment)
        except (InternalError, KeyError) as error:
            return Outcome(reason=str(error.args[0]))
        outputs = args[n_inputs:] if self._of_tensors[name] else args
        arrays = (value for value in outputs if not isinstance(value, int))
        return Outcome((*arrays, *self._written(weights)))

    def _why_not(self, function: func.FuncOp) -> str:
        """Why the inputs do not fit `function` any more; empty where they do."""
        name = function.sym_name.data
        n_expected = len(self._arguments[name])
        if not _of_tensors(function):
            n_expected += self._n_results[name]
        if len(function.body.block.args) != n_expected:
            return "its arguments are others"
        new = [weight for weight in _weights(function) if weight not in self._weights]
        return f"@{new[0]} is new" if new else ""

    def _written(self, weights: Mapping[str, Array]) -> list[Array]:
        """The weights that are not what they were, by name."""
        return [value for name, value in sorted(weights.items()) if (value != self._weights[name]).any()]

    def _weight(self, of: Attribute) -> Array:
        sizes = shape(of)
        return (self._rng.standard_normal(sizes) / np.sqrt(sizes[-1])).astype(np.float32)

    def _inputs(self, function: func.FuncOp) -> list[Any]:
        arguments = function.body.block.args
        return [self._input(argument, shape(arguments[0].type)[0]) for argument in arguments]

    def _input(self, argument: SSAValue, capacity: int) -> Array | int:
        of = argument.type
        if isinstance(of, IndexType):
            return capacity if argument.name_hint == "n" else 0
        assert isa(of, TensorType) or isa(of, MemRefType)
        if argument.name_hint == "starts":
            return np.zeros(shape(of), np.int32)
        if isinstance(of.get_element_type(), IntegerType):
            return (np.arange(np.prod(shape(of))) % self._rows).astype(np.int32).reshape(shape(of))
        return self._rng.standard_normal(shape(of)).astype(np.float32)


def differences(before: Mapping[str, Outcome], after: Mapping[str, Outcome]) -> dict[str, float | str]:
    """For each function the normalised mean squared error of its worst result, or why there is none."""
    found: dict[str, float | str] = {}
    for name, old in before.items():
        new = after[name]
        if old.reason or new.reason:
            found[name] = old.reason or new.reason
        elif [a.shape for a in old.results] != [b.shape for b in new.results]:
            found[name] = float("inf")
        else:
            errors = (_error(a, b) for a, b in zip(old.results, new.results, strict=True))
            found[name] = max(errors, default=0.0)
    return found


def _error(a: Array, b: Array) -> float:
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    exact = a[finite].astype(np.float64)
    error = float(((b[finite] - exact) ** 2).sum())
    return error / float((exact**2).sum()) if error else 0.0


def _of_tensors(function: func.FuncOp) -> bool:
    return isinstance(function.body.block.args[0].type, TensorType)


def _entries(module: ModuleOp) -> dict[str, func.FuncOp]:
    """Functions that can be run alone: public ones whose first argument has rows."""
    return {
        op.sym_name.data: op
        for op in module.ops
        if isinstance(op, func.FuncOp) and op.body.blocks and op.sym_visibility is None and _has_rows(op)
    }


def _has_rows(function: func.FuncOp) -> bool:
    arguments = [argument.type for argument in function.body.block.args]
    buffers = [of for of in arguments if isa(of, TensorType) or isa(of, MemRefType)]
    others = [of for of in arguments if isinstance(of, IndexType)]
    if len(buffers) + len(others) != len(arguments) or not buffers or arguments[0] is not buffers[0]:
        return False
    return all(min(shape(of)) >= 0 for of in buffers)


def _weights(within: Operation) -> dict[str, Attribute]:
    """The type of every weight that an op of `within` is."""
    found: dict[str, Attribute] = {}
    for op in within.walk():
        if isinstance(op, WeightOp | rt.WeightOp):
            found[op.symbol_name] = op.value.type
    return found
