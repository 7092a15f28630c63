"""Runs a generated row-wise function in numpy, with the bits its C has.

    run_function(function, args)     args: one array or int for each argument; buffers are written in place

A loop whose bounds are the function's own arguments is the loop over rows: its iterations touch rows of
their own, so all of them run at once, with the row's index as an array and every value with one more axis
in front. Loops over columns run in Python. Arithmetic is float32 and int32 as numpy and C both do it, one
rounding an operation. Raises InternalError for an operation that generated functions do not have.
"""

from collections.abc import Callable, Sequence
from math import erf
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import arith, func, math, memref, scf, vector
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    DenseIntOrFPElementsAttr,
    Float16Type,
    Float32Type,
    Float64Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    VectorType,
    i1,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.utils.hints import isa

from ck.errors import InternalError
from ck.ir.types import is_buffer

# A value: a number, or an array with a row axis in front where it depends on the row and a lane axis at the
# end where it is a vector.
Value = Any
Array = NDArray[Any]

_FLOATS: dict[type[Attribute], str] = {Float16Type: "f2", Float32Type: "f4", Float64Type: "f8"}


def run_function(function: func.FuncOp, args: Sequence[Array | int]) -> None:
    """Execute `function`; arrays have the shape and element type of their memref and are changed in place."""
    types = function.function_type.inputs.data
    if len(args) != len(types):
        name = function.sym_name.data
        raise InternalError(f"{name}: takes {len(types)} arguments, got {len(args)}")
    for type, arg in zip(types, args, strict=True):
        _check(function.sym_name.data, type, arg)
    with np.errstate(all="ignore"):
        _Run(function, args).block(function.body.block)


def _check(name: str, type: Attribute, arg: Array | int) -> None:
    if not isa(type, MemRefType):
        return
    if not isinstance(arg, np.ndarray):
        raise InternalError(f"{name}: takes an array for {type}, got {arg!r}")
    dtype = _dtype(type.get_element_type())
    fits = len(arg.shape) == type.get_num_dims() and all(
        wanted in (size, DYNAMIC_INDEX) for size, wanted in zip(arg.shape, type.get_shape(), strict=True)
    )
    if not fits or arg.dtype != dtype:
        raise InternalError(f"{name}: takes {type}, got an array of {arg.shape} {arg.dtype}")


def _dtype(type: Attribute) -> np.dtype[Any]:
    """The element type of scalars, vectors and buffers alike."""
    if _is_vector(type) or is_buffer(type):
        type = type.get_element_type()
    if isinstance(type, IntegerType):
        return np.dtype(np.bool_ if type == i1 else f"i{cast(IntegerType, type).width.data // 8}")
    return np.dtype(_FLOATS.get(type.__class__, "i8"))


def _is_vector(type: Attribute) -> TypeGuard[VectorType[Attribute]]:
    # Not `isa`, which asks about the element type too: ten times as long, for each of a thousand columns.
    return isinstance(type, VectorType)


def _lanes(type: Attribute) -> int:
    return cast(VectorType[Attribute], type).get_shape()[-1]


def _unsigned(a: Array) -> Array:
    return a.view(a.dtype.str.replace("i", "u"))


def _shift_right(a: Array, b: Array) -> Array:
    return (_unsigned(a) >> _unsigned(b)).view(a.dtype)


def _maximum(a: Array, b: Array) -> Array:
    return np.where((a > b) | (a != a), a, b)


def _minimum(a: Array, b: Array) -> Array:
    return np.where((a < b) | (a != a), a, b)


_ELEMENTWISE: dict[type[Operation], Callable[..., Value]] = {
    arith.AddfOp: np.add,
    arith.SubfOp: np.subtract,
    arith.MulfOp: np.multiply,
    arith.DivfOp: np.divide,
    arith.NegfOp: np.negative,
    arith.AddiOp: np.add,
    arith.SubiOp: np.subtract,
    arith.MuliOp: np.multiply,
    arith.AndIOp: np.bitwise_and,
    arith.OrIOp: np.bitwise_or,
    arith.XOrIOp: np.bitwise_xor,
    arith.ShLIOp: np.left_shift,
    arith.ShRSIOp: np.right_shift,
    arith.ShRUIOp: _shift_right,
    arith.MaximumfOp: _maximum,
    arith.MinimumfOp: _minimum,
    arith.SelectOp: np.where,
    math.AbsFOp: np.abs,
    math.CopySignOp: np.copysign,
    math.SqrtOp: np.sqrt,
    math.FloorOp: np.floor,
    math.CeilOp: np.ceil,
    math.TruncOp: np.trunc,
    math.RoundEvenOp: np.rint,
}
# Until ck-expand-math has run: these have no bits of their own, so the float64 value rounded to f32.
_FUNCTIONS: dict[type[Operation], Callable[[Value], Value]] = {
    math.ExpOp: np.exp,
    math.TanhOp: np.tanh,
    math.ErfOp: np.vectorize(erf, otypes=[np.float64]),
    math.LogOp: np.log,
    math.SinOp: np.sin,
    math.CosOp: np.cos,
    math.RsqrtOp: lambda x: 1 / np.sqrt(x),
}
_CONVERSIONS = (
    *(arith.SIToFPOp, arith.FPToSIOp, arith.ExtSIOp, arith.TruncIOp),
    *(arith.ExtFOp, arith.TruncFOp, arith.IndexCastOp),
)
_COMPARE: dict[str, Callable[[Value, Value], Value]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def _compare(op: arith.CmpfOp | arith.CmpiOp, a: Value, b: Value) -> Value:
    if isinstance(op, arith.CmpiOp):
        name = arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]
        a, b = (_unsigned(a), _unsigned(b)) if name[0] == "u" else (a, b)
        return _COMPARE[name[-2:]](a, b)
    name = arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data]
    unordered = np.isnan(a) | np.isnan(b)
    if name in ("ord", "uno"):
        return unordered if name == "uno" else ~unordered
    result = _COMPARE[name[1:]](a, b)
    return result | unordered if name[0] == "u" else result & ~unordered


class _Run:
    def __init__(self, function: func.FuncOp, args: Sequence[Array | int]) -> None:
        self._arguments = set(function.body.block.args)
        self._values: dict[SSAValue, Value] = {}
        # Indices of the rows that run together, and their number; none outside the loop over rows.
        self._rows: Array | None = None
        # Buffers with a row axis of their own in front: those allocated inside the loop over rows.
        self._per_row: set[SSAValue] = set()
        for argument, value in zip(function.body.block.args, args, strict=True):
            self._values[argument] = np.int64(value) if isinstance(argument.type, IndexType) else value

    def block(self, block: Block) -> list[Value]:
        """Execute a block; returns what it yields."""
        for op in block.ops:
            if isinstance(op, (scf.YieldOp, func.ReturnOp)):
                return [self._values[value] for value in op.operands]
            self._operation(op)
        return []

    def _operation(self, op: Operation) -> None:
        operands = [self._values[value] for value in op.operands]
        if type(op) in _ELEMENTWISE:
            self._values[op.results[0]] = _ELEMENTWISE[type(op)](*operands)
        elif type(op) in _FUNCTIONS:
            exact = _FUNCTIONS[type(op)](operands[0].astype(np.float64))
            self._values[op.results[0]] = exact.astype(np.float32)
        elif isinstance(op, _CONVERSIONS):
            self._values[op.results[0]] = operands[0].astype(_dtype(op.results[0].type))
        elif isinstance(op, (arith.ExtUIOp, arith.UIToFPOp)):
            source = operands[0] if operands[0].dtype == np.bool_ else _unsigned(operands[0])
            self._values[op.results[0]] = source.astype(_dtype(op.results[0].type))
        elif isinstance(op, (arith.BitcastOp, vector.BitcastOp)):
            self._values[op.results[0]] = operands[0].view(_dtype(op.results[0].type))
        elif isinstance(op, (arith.CmpfOp, arith.CmpiOp)):
            self._values[op.results[0]] = _compare(op, *operands)
        elif type(op) in _OTHERS:
            _OTHERS[type(op)](self, op)
        else:
            raise InternalError(f"rows: no meaning for operation {op.name}")

    def _get(self, value: SSAValue) -> Value:
        return self._values[value]

    def constant(self, op: arith.ConstantOp) -> None:
        value = op.value
        if isinstance(value, DenseIntOrFPElementsAttr):
            elements: Sequence[Any] = value.get_values()
            shape = cast(VectorType[Attribute], op.result.type).get_shape()
            array = np.array(elements, dtype=_dtype(op.result.type))
            self._values[op.result] = np.broadcast_to(array, shape)
        else:
            assert isa(value, IntegerAttr) or isa(value, FloatAttr)
            self._values[op.result] = _dtype(op.result.type).type(value.value.data)

    def broadcast(self, op: vector.BroadcastOp) -> None:
        source = np.asarray(self._get(op.source))
        lanes = _lanes(op.vector.type)
        if not _is_vector(op.source.type):
            source = source[..., None]
        self._values[op.vector] = np.broadcast_to(source, (*source.shape[:-1], lanes))

    def mask(self, op: vector.CreateMaskOp) -> None:
        lanes = _lanes(op.mask_vector.type)
        self._values[op.mask_vector] = np.arange(lanes) < self._get(op.mask_dim_sizes[0])

    def extract(self, op: vector.ExtractOp) -> None:
        self._values[op.result] = self._get(op.vector)[..., op.static_position.get_values()[0]]

    def insert(self, op: vector.InsertOp) -> None:
        source, target = np.asarray(self._get(op.source)), self._get(op.dest)
        result = np.broadcast_to(target, (*source.shape, target.shape[-1])) if source.ndim else target
        result = result.copy()
        result[..., op.static_position.get_values()[0]] = source
        self._values[op.result] = result

    def shuffle(self, op: vector.ShuffleOp) -> None:
        a, b = np.broadcast_arrays(self._get(op.v1), self._get(op.v2))
        lanes: Sequence[int] = op.mask.get_values()
        self._values[op.result] = np.concatenate([a, b], axis=-1)[..., list(lanes)]

    def _place(self, buffer: SSAValue, indices: Sequence[SSAValue], lanes: int | None) -> tuple[Any, ...]:
        """The numpy index of an element, or of `lanes` elements from it on."""
        place: list[Any] = [slice(None)] if buffer in self._per_row else []
        place += [self._index(self._get(index)) for index in indices]
        if lanes is not None:
            last = place[-1]
            if isinstance(last, (slice, np.ndarray)):
                raise InternalError("rows: a vector's columns do not depend on the row")
            place[-1] = slice(last, last + lanes)
        return tuple(place)

    def _index(self, index: Value) -> Any:
        if self._rows is None or np.ndim(index) == 0:
            return int(index)
        if index is self._rows and len(index) and int(index[-1]) - int(index[0]) == len(index) - 1:
            return slice(int(index[0]), int(index[-1]) + 1)
        return index

    def load(self, op: memref.LoadOp) -> None:
        value = self._get(op.memref)[self._place(op.memref, op.indices, None)]
        self._values[op.res] = value.copy()

    def store(self, op: memref.StoreOp) -> None:
        self._get(op.memref)[self._place(op.memref, op.indices, None)] = self._get(op.value)

    def vector_load(self, op: vector.LoadOp) -> None:
        lanes = _lanes(op.result.type)
        self._values[op.result] = self._get(op.base)[self._place(op.base, op.indices, lanes)].copy()

    def vector_store(self, op: vector.StoreOp) -> None:
        lanes = _lanes(op.vector.type)
        self._get(op.base)[self._place(op.base, op.indices, lanes)] = self._get(op.vector)

    def masked_load(self, op: vector.MaskedLoadOp) -> None:
        live = int(np.count_nonzero(self._get(op.mask)))
        loaded = self._get(op.base)[self._place(op.base, op.indices, live)]
        rest = self._get(op.pass_thru)
        rest = np.broadcast_to(rest, (*loaded.shape[:-1], rest.shape[-1]))
        self._values[op.result] = np.concatenate([loaded, rest[..., live:]], axis=-1)

    def masked_store(self, op: vector.MaskedStoreOp) -> None:
        live = int(np.count_nonzero(self._get(op.mask)))
        place = self._place(op.base, op.indices, live)
        self._get(op.base)[place] = self._get(op.value_to_store)[..., :live]

    def copy(self, op: memref.CopyOp) -> None:
        self._get(op.destination)[...] = self._get(op.source)

    def allocate(self, op: memref.AllocaOp) -> None:
        type = op.memref.type
        assert isa(type, MemRefType)
        shape = type.get_shape()
        if self._rows is not None:
            shape = (len(self._rows), *shape)
            self._per_row.add(op.memref)
        # Not a number until written, so that a read of what was never written shows.
        fill = np.nan if _dtype(type).kind == "f" else 0
        self._values[op.memref] = np.full(shape, fill, dtype=_dtype(type))

    def loop(self, op: scf.ForOp) -> None:
        bounds = [self._get(value) for value in (op.lb, op.ub, op.step)]
        if any(np.ndim(bound) for bound in bounds):
            raise InternalError("rows: a loop's bounds do not depend on the row")
        start, end, step = (int(bound) for bound in bounds)
        variable, *carried = op.body.block.args
        if self._rows is None and not carried and {op.lb, op.ub} <= self._arguments:
            self._rows = np.arange(start, end, step)
            self._values[variable] = self._rows
            if len(self._rows):
                self.block(op.body.block)
            self._rows = None
            return
        values = [self._get(value) for value in op.iter_args]
        for index in range(start, end, step):
            self._values[variable] = np.int64(index)
            self._values.update(zip(carried, values, strict=True))
            values = self.block(op.body.block)
        self._values.update(zip(op.res, values, strict=True))

    def branch(self, op: scf.IfOp) -> None:
        condition = self._get(op.cond)
        if np.ndim(condition):
            raise InternalError("rows: a branch does not depend on the row")
        region = op.true_region if condition else op.false_region
        values = self.block(region.block) if region.blocks else []
        self._values.update(zip(op.output, values, strict=True))


_OTHERS: dict[type[Operation], Callable[[_Run, Any], None]] = {
    arith.ConstantOp: _Run.constant,
    vector.BroadcastOp: _Run.broadcast,
    vector.CreateMaskOp: _Run.mask,
    vector.ExtractOp: _Run.extract,
    vector.InsertOp: _Run.insert,
    vector.ShuffleOp: _Run.shuffle,
    memref.LoadOp: _Run.load,
    memref.StoreOp: _Run.store,
    vector.LoadOp: _Run.vector_load,
    vector.StoreOp: _Run.vector_store,
    vector.MaskedLoadOp: _Run.masked_load,
    vector.MaskedStoreOp: _Run.masked_store,
    memref.AllocaOp: _Run.allocate,
    memref.CopyOp: _Run.copy,
    scf.ForOp: _Run.loop,
    scf.IfOp: _Run.branch,
}
