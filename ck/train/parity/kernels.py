"""Each op's compiled value against its reference, on a real step: a program that shows what it computes.

The step is compiled once more with every intermediate value among its results. Each op is then judged alone:
its reference, in f64, gets the operands that the compiled program computed. The limit is 1e-5 of the result's
norm, or 16 times what the reference itself loses in f32 where the op cancels.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import Rewriter

from ck.backend.backends import Backend
from ck.frontend.graph import BuiltGraph
from ck.ir.dialects import context
from ck.ir.evaluate import find_function
from ck.ir.op import Array, CkOp, Updates
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.weight import WeightOp
from ck.ir.rt.manifest import manifest_of
from ck.ir.types import is_tensor, shape
from ck.passes.add_optimizer import AddOptimizerPass
from ck.passes.differentiate import GRADIENTS, DifferentiatePass, symbols
from ck.runtime.compilation import build_program
from ck.runtime.program import Program, anonymous, pointer_table
from ck.train.parity.figures import distance, norm
from ck.train.parity.graphs import STEP, Problem, is_f32

LIMIT, ROUNDINGS = 1e-5, 16.0
_SHOWN = re.compile(r"shown(\d+)x")


@dataclass(frozen=True)
class WrongKernel:
    """An op whose compiled value is not its reference's."""

    op: CkOp
    value: str
    error: float
    limit: float


@dataclass(frozen=True)
class Compiled:
    """What the compiled step gave: gradients by name, and shown values by their number."""

    gradients: dict[str, Array]
    shown: dict[int, Array]
    module: ModuleOp


def _shown(function: func.FuncOp) -> dict[int, SSAValue]:
    """The values of rows that have a buffer of their own, by their place among the function's results."""
    results = [result for op in function.body.block.ops if isinstance(op, CkOp) for result in op.results]
    return {number: value for number, value in enumerate(results) if _is_shown(value)}


def _is_shown(value: SSAValue) -> bool:
    op = value.owner
    if isinstance(op, ReshapeOp | WeightOp) or not is_tensor(value.type) or len(shape(value.type)) != 2:
        return False
    # A result that nothing reads is working memory.
    is_read = bool(value.uses)
    return is_read and not (isinstance(op, Updates) and any(value is new for new, _ in op.updated))


def compile_showing(problem: Problem, made_by: Backend, threads: int) -> Compiled:
    """Compile the step with its intermediate values among its results, and run it once."""
    built = problem.graph()
    module = built.module
    DifferentiatePass().apply(context(), module)
    as_made = module.clone()
    function = find_function(module, STEP)
    names = symbols(function, GRADIENTS)
    _show(function, len(names))
    AddOptimizerPass().apply(context(), module)
    with tempfile.TemporaryDirectory(prefix="ck-parity-") as directory:
        gradients, arguments = _run(Path(directory), built, problem, made_by, threads)
    shown = {int(found[1]): values for name, values in arguments.items() if (found := _SHOWN.fullmatch(name))}
    return Compiled({name: gradients[name] for name in names}, shown, as_made)


def _show(function: func.FuncOp, n_gradients: int) -> None:
    """Return the intermediate values as well, before the gradients."""
    last = function.body.block.last_op
    assert isinstance(last, func.ReturnOp)
    shown = _shown(function)
    for number, value in shown.items():
        value.name_hint = f"shown{number}x"
    values = [*shown.values(), *last.operands[len(last.operands) - n_gradients :]]
    Rewriter.replace_op(last, func.ReturnOp(*values))
    inputs = [arg.type for arg in function.body.block.args]
    function.function_type = FunctionType.from_lists(inputs, [value.type for value in values])


def _run(
    directory: Path, built: BuiltGraph, problem: Problem, made_by: Backend, threads: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Build and run; returns the gradients and the arguments with what is in them afterwards."""
    build_program(directory, built, {}, made_by, lambda _: None)
    manifest = manifest_of(built.module)
    tensors = {slot.name: _floats(slot.shape) for slot in manifest.weights}
    given = problem.tensors(built.constants, np.float32)
    for name, tensor in tensors.items():
        tensor[...] = given.get(name, 0)
    pointers = pointer_table(list(tensors.values()))
    program = Program(directory / "build" / made_by.object_name, manifest, pointers, threads)
    arguments: dict[str, NDArray[Any]] = {
        a.name: _floats(a.shape) if a.kind == "f32" else np.zeros(a.shape, np.int32)
        for a in manifest.fields()
        if a.kind != "index"
    }
    function = find_function(problem.graph().module, STEP)
    wanted = zip(function.body.block.args, problem.arguments(function), strict=True)
    for arg, values in wanted:
        if isinstance(values, np.ndarray):
            arguments[str(arg.name_hint)][...] = values
    slopes = next(name for name in arguments if name.startswith("d_"))
    arguments[slopes][...] = problem.slopes
    program.bind(arguments)
    program.run(STEP, problem.n_rows)
    program.close()
    gradients = {n.removeprefix("grad."): t.copy() for n, t in tensors.items() if n.startswith("grad.")}
    return gradients, {name: values.copy() for name, values in arguments.items()}


def _floats(sizes: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros on a page of their own."""
    return anonymous(4 * int(np.prod(sizes))).view(np.float32)[: int(np.prod(sizes))].reshape(sizes)


def wrong_kernels(problem: Problem, compiled: Compiled) -> list[WrongKernel]:
    """The ops, in program order, whose compiled value departs from their reference."""
    function = find_function(compiled.module, STEP)
    block = function.body.block
    values: dict[SSAValue, Any] = dict(zip(block.args, problem.arguments(function), strict=True))
    tensors = problem.tensors(problem.graph().constants, np.float32)
    last = block.last_op
    assert last is not None
    names = symbols(function, GRADIENTS)
    gradients = dict(zip(last.operands[-len(names) :], names, strict=True))
    found: list[WrongKernel] = []
    number = 0
    for op in block.ops:
        if not isinstance(op, CkOp):
            continue
        if isinstance(op, WeightOp):
            values[op.value] = tensors[op.symbol_name]
            number += 1
            continue
        exact, rounded = _references(op, values)
        for result, want, coarse in zip(op.results, exact, rounded, strict=True):
            got = _compiled_value(result, number, compiled, gradients)
            number += 1
            values[result] = coarse if got is None else got
            if got is not None:
                found += _judge(op, result, got, want, coarse)
    return found


def _references(op: CkOp, values: Mapping[SSAValue, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The results of `op` on the compiled program's operands, in f64 and in f32."""
    operands = [values[operand] for operand in op.operands]
    wide = [v.astype(np.float64) if is_f32(v) else v for v in operands]
    with np.errstate(all="ignore"):
        return op.reference(*wide), op.reference(*operands)


def _compiled_value(
    result: SSAValue, number: int, compiled: Compiled, gradients: Mapping[SSAValue, str]
) -> Array | None:
    name = gradients.get(result)
    return compiled.shown.get(number) if name is None else compiled.gradients[name]


def _judge(op: CkOp, result: SSAValue, got: Array, want: Array, coarse: Array) -> list[WrongKernel]:
    if np.isnan(want).all():
        # Working memory: nothing may be read from it.
        return []
    size = norm(want)
    limit = max(LIMIT * size, ROUNDINGS * distance(coarse, want))
    apart = distance(got.reshape(shape(result.type)), want)
    if apart <= limit:
        return []
    scale = 1 / size if size else 1.0
    return [WrongKernel(op, result.name_hint or "", apart * scale, limit * scale)]
