"""Run `ck` functions in numpy, each op by its own `reference`: slow, obvious, the judge of every backend.

Rows from `n` on hold NaN after every op, so a result that reads one shows it. An op that becomes a kernel is
handed the live rows alone, as its kernel is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue

from ck.ir.op import AcrossRows, Array, CkOp, KernelOp, Updates, is_state
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import CacheType, KvType, is_tensor, shape

# Keys and values [kv heads, capacity, head width], or a recurrent state.
Kept: TypeAlias = tuple[Array, Array] | Array


@dataclass
class Environment:
    """What a module's names stand for: weights as f32 arrays, caches as `Kept`, made on demand.

    `observe` is told of every value that an op makes or a call writes, when it is made.
    """

    weights: Mapping[str, Array]
    caches: dict[str, Kept] = field(default_factory=dict[str, Kept])
    observe: Callable[[SSAValue, Operation, Any], None] | None = None

    def cache(self, name: str, of: CacheType) -> Kept:
        """The cache `name`; every number starts as NaN."""
        if name not in self.caches:
            self.caches[name] = empty_cache(of)
        return self.caches[name]


def empty_cache(of: CacheType) -> Kept:
    """A cache that holds NaN."""
    if not isinstance(of, KvType):
        return np.full(shape(of), np.nan, np.float32)
    dtype = np.float16 if of.dtype_name == "f16" else np.float32
    return np.full(shape(of), np.nan, dtype), np.full(shape(of), np.nan, dtype)


def find_function(module: ModuleOp, name: str) -> func.FuncOp:
    """The function called `name`. Raises KeyError when there is none."""
    for op in module.ops:
        if isinstance(op, func.FuncOp) and op.sym_name.data == name:
            return op
    raise KeyError(f"the module has no function @{name}")


def evaluate(module: ModuleOp, name: str, args: Sequence[Any], environment: Environment) -> tuple[Any, ...]:
    """Run function `name` on `args` (arrays for tensors, ints for indices) and return its results.

    An argument named `n` is the live count: rows of the first argument past it are never read.
    """
    function = find_function(module, name)
    block = function.body.block
    values: dict[SSAValue, Any] = dict(zip(block.args, args, strict=True))
    live = next((values[arg] for arg in block.args if arg.name_hint == "n"), None)
    return _run(block, values, environment, live, shape(block.args[0].type)[0])


def _run(
    block: Block, values: dict[SSAValue, Any], environment: Environment, live: int | None, capacity: int
) -> tuple[Any, ...]:
    for op in block.ops:
        operands = [values[operand] for operand in op.operands]
        if isinstance(op, func.ReturnOp | YieldOp):
            return tuple(operands)
        results = _results(op, operands, values, environment, live, capacity)
        for result, value in zip(op.results, results, strict=True):
            values[result] = _masked(result, value, live, capacity)
            if environment.observe is not None:
                environment.observe(result, op, values[result])
        if isinstance(op, Updates):
            _write_states(op, values)
    return ()


def _write_states(op: Updates, values: dict[SSAValue, Any]) -> None:
    """Put new values where the states they update lie; what updates them again finds them there."""
    for result, operand in op.updated:
        if is_state(operand):
            values[operand][...] = values[result]
            values[result] = values[operand]


def _results(
    op: Operation,
    operands: list[Any],
    values: dict[SSAValue, Any],
    environment: Environment,
    live: int | None,
    capacity: int,
) -> tuple[Any, ...]:
    if isinstance(op, WeightOp):
        return (environment.weights[op.symbol_name],)
    if isinstance(op, CacheOp):
        assert isinstance(op.value.type, CacheType)
        return (environment.cache(op.symbol_name, op.value.type),)
    if isinstance(op, FusedOp):
        inner: dict[SSAValue, Any] = dict(zip(op.block.args, operands, strict=True))
        return _run(op.block, inner, environment, live, capacity)
    assert isinstance(op, CkOp), f"{op.name} is not a ck op"
    if isinstance(op, AcrossRows | KernelOp) and live is not None:
        given = [_live(v, value, live, capacity) for v, value in zip(op.operands, operands, strict=True)]
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            return tuple(_padded(r, v) for r, v in zip(op.results, op.reference(*given), strict=True))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return op.reference(*operands)


def _live(of: SSAValue, value: Any, live: int, capacity: int) -> Any:
    """The live rows of a value that has rows of tokens."""
    if not is_tensor(of.type) or value.shape[0] % capacity:
        return value
    has_rows = value.ndim == 2 or value.dtype == np.int32
    return value[: live * (len(value) // capacity)] if has_rows else value


def _padded(of: SSAValue, value: Any) -> Any:
    """`value` with NaN in the rows that its type has beyond the live ones."""
    missing = shape(of.type)[0] - len(value) if is_tensor(of.type) and value.ndim == 2 else 0
    return np.pad(value, ((0, missing), (0, 0)), constant_values=np.nan) if missing else value


def _masked(result: SSAValue, value: Any, live: int | None, capacity: int) -> Any:
    """`value` with NaN in the rows that are not live."""
    if live is None or live == capacity or not is_tensor(result.type):
        return value
    rows: Array = value
    if rows.ndim != 2 or len(rows) % capacity:
        return rows
    masked = rows.copy()
    masked[live * (len(rows) // capacity) :] = np.nan
    return masked
