"""Run `rt` functions in numpy, at any stage between ck-bufferize and the last pass.

Buffers are arrays, the arena is bytes, views share them: a plan that lets two live buffers overlap gives
wrong numbers here as it would in C. Kernels are emulated by their op's `reference`, generated functions by
their loops. Memory starts as NaN, so what reads a row that nobody wrote shows it. One thread: barriers do
nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from xdsl.dialects import func
from xdsl.dialects.builtin import IndexType, ModuleOp, SymbolRefAttr, i8, i32
from xdsl.ir import Attribute, Block, Operation, SSAValue

from ck.errors import InternalError
from ck.ir.evaluate import Environment, find_function
from ck.ir.op import Array, KernelOp, int_value, number_value, type_bytes
from ck.ir.ops import OPS
from ck.ir.rt.evaluate_loops import run_function
from ck.ir.rt.ops import (
    AllocOp,
    ArenaOp,
    BarrierOp,
    CacheOp,
    CallOp,
    LaunchOp,
    RepeatOp,
    ViewAtOp,
    ViewOp,
    WeightOp,
    Work,
)
from ck.ir.types import CacheType, is_buffer, shape

_EMULATED = {prefix: op for op in OPS if issubclass(op, KernelOp) for prefix in op.KERNELS}

_DTYPES: dict[Attribute, DTypeLike] = {i8: np.uint8, i32: np.int32}


def evaluate_rt(module: ModuleOp, name: str, args: Sequence[Any], environment: Environment) -> None:
    """Run function `name` on `args`: arrays for buffers (outputs are written in place), ints for indices."""
    function = find_function(module, name)
    _Run(module, environment).function(function, args)


def _array(of: Attribute, memory: Array) -> Array:
    """`memory` (bytes) as a buffer of type `of`."""
    assert is_buffer(of)
    dtype = np.dtype(_DTYPES.get(of.element_type, np.float32))
    return memory[: type_bytes(of)].view(dtype).reshape(shape(of))


def _nan_bytes(n_bytes: int) -> Array:
    return np.full(n_bytes, 0xFF, np.uint8)


class _Run:
    def __init__(self, module: ModuleOp, environment: Environment) -> None:
        self.module = module
        self.environment = environment

    def function(self, function: func.FuncOp, args: Sequence[Any]) -> None:
        block = function.body.block
        self.block(block, dict(zip(block.args, args, strict=True)))

    def block(self, block: Block, values: dict[SSAValue, Any]) -> None:
        # Where a view's bytes begin is kept beside its array, for views of views.
        memory: dict[SSAValue, Array] = {
            value: given.reshape(-1).view(np.uint8)
            for value, given in values.items()
            if isinstance(given, np.ndarray)
        }
        for op in block.ops:
            self._operation(op, values, memory)

    def _operation(self, op: Operation, values: dict[SSAValue, Any], memory: dict[SSAValue, Array]) -> None:
        match op:
            case AllocOp() | ArenaOp():
                memory[op.buffer] = _nan_bytes(type_bytes(op.buffer.type))
                values[op.buffer] = _array(op.buffer.type, memory[op.buffer])
            case ViewOp() | ViewAtOp():
                offset = op.offset_bytes if isinstance(op, ViewOp) else values[op.offset]
                memory[op.buffer] = memory[op.source][offset:]
                values[op.buffer] = _array(op.buffer.type, memory[op.buffer])
            case WeightOp():
                values[op.value] = self.environment.weights[op.symbol_name]
            case CacheOp():
                values[op.value] = self._cache(op.symbol_name, op.value.type)
            case CallOp():
                self._call(op, values)
            case LaunchOp():
                self._launch(op, values)
            case RepeatOp():
                self._repeat(op, values)
            case BarrierOp() | func.ReturnOp():
                pass
            case _:
                raise InternalError(f"{op.name} is not an rt op")

    def _cache(self, name: str, of: Attribute) -> Any:
        assert isinstance(of, CacheType)
        return self.environment.cache(name, of)

    def _call(self, op: CallOp, values: dict[SSAValue, Any]) -> None:
        symbol = op.symbol_name
        prefix = max((p for p in _EMULATED if symbol.startswith(p)), key=len, default=None)
        if prefix is None:
            raise InternalError(f"kernel {symbol} has no emulation")
        immediates = {name: number_value(value) for name, value in op.immediates.data.items()}
        outs, ins = [values[v] for v in op.outs], [values[v] for v in op.ins]
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            _EMULATED[prefix].emulate(symbol, outs, ins, immediates)
        self._written(op, values)

    def _launch(self, op: LaunchOp, values: dict[SSAValue, Any]) -> None:
        rows = values[op.live] * op.rows_per_token.value.data
        args = [values[value] for value in (*op.ins, *op.outs)]
        run_function(find_function(self.module, op.symbol_name), [*args, 0, rows])
        self._written(op, values)

    def _written(self, op: Work, values: dict[SSAValue, Any]) -> None:
        """Tell the observer what a call wrote."""
        if self.environment.observe is not None:
            for value in op.writes:
                self.environment.observe(value, op, values[value])

    def _repeat(self, op: RepeatOp, values: dict[SSAValue, Any]) -> None:
        layer = find_function(self.module, op.symbol_name)
        columns = layer.body.block.args[len(op.shared) :]
        shared = [values[value] for value in op.shared]
        for row in op.rows:
            entries = [self._entry(entry, column.type) for entry, column in zip(row, columns, strict=True)]
            self.function(layer, [*shared, *entries])

    def _entry(self, entry: Attribute, of: Attribute) -> Any:
        if isinstance(of, IndexType):
            return int_value(entry)
        assert isinstance(entry, SymbolRefAttr)
        name = entry.root_reference.data
        return self._cache(name, of) if isinstance(of, CacheType) else self.environment.weights[name]
