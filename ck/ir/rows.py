"""Row-wise ops as loops: one row at a time, 16 columns at a time, reductions in a written order.

A `RowValue` is a row that is not computed yet: it can say its 16 columns at a place. `RowBuilder` strings row
values together and opens a loop only where one is forced: at a reduction, and at the end for what has to be
stored. An output is stored in the first loop that needs it and loaded from there on, so nothing is computed
twice.

A sum of D columns has 4 accumulators of 16 lanes (column i goes to accumulator i // 16 mod 4, lane i mod 16),
joined as (0 + 1) + (2 + 3), then lanes l and l + 8, l + 4, l + 2, l + 1. That order binds every backend.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xdsl.builder import Builder
from xdsl.dialects import arith, math, scf, vector
from xdsl.dialects.builtin import (
    I64,
    DenseArrayBase,
    FloatAttr,
    IndexType,
    IntegerAttr,
    VectorType,
    f32,
    i1,
    i64,
)
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.rewriter import InsertPoint

from ck.ir.types import is_buffer, shape

LANES = 16
ACCUMULATORS = 4
VECTOR = VectorType(f32, [LANES])
MASK = VectorType(i1, [LANES])


@dataclass(frozen=True)
class Columns:
    """16 columns from `index` on, of which the first `live` exist."""

    index: SSAValue
    live: int = LANES


class RowValue(Protocol):
    """A row, computed where and when its columns are asked for."""

    def columns(self, at: Columns) -> SSAValue:
        """The value of 16 columns: vector<16xf32>, lanes past `at.live` unspecified."""
        ...


@dataclass(eq=False)
class _Loaded:
    """A row of a buffer [T, D], or the buffer [D] that all rows share."""

    b: "RowBuilder"
    buffer: SSAValue

    def columns(self, at: Columns) -> SSAValue:
        return self.b.load(self.buffer, at)


@dataclass(eq=False)
class _Splat:
    """One scalar in every column."""

    b: "RowBuilder"
    scalar: SSAValue

    def columns(self, at: Columns) -> SSAValue:
        return self.b.once(("splat", self.scalar), lambda: vector.BroadcastOp(self.scalar, VECTOR))


@dataclass(eq=False)
class _Mapped:
    """An elementwise function of other rows."""

    b: "RowBuilder"
    operation: Callable[..., Operation]
    operands: Sequence[RowValue]

    def columns(self, at: Columns) -> SSAValue:
        parts = [operand.columns(at) for operand in self.operands]
        return self.b.once((self, at.index), lambda: self.operation(*parts))


@dataclass(eq=False)
class _Shifted:
    """Another row from column `first` on."""

    b: "RowBuilder"
    value: RowValue
    first: int

    def columns(self, at: Columns) -> SSAValue:
        if not self.first:
            return self.value.columns(at)
        offset = self.b.index(self.first)
        moved = self.b.once(("moved", at.index, self.first), lambda: arith.AddiOp(at.index, offset))
        return self.value.columns(Columns(moved, at.live))


@dataclass(eq=False)
class _Output:
    """A row that is also a result: stored by the first loop that computes it, loaded by later ones."""

    b: "RowBuilder"
    value: RowValue
    buffer: SSAValue
    stored_in: int | None = None

    def columns(self, at: Columns) -> SSAValue:
        if self.stored_in is None:
            self.stored_in = self.b.sweep
        if self.stored_in != self.b.sweep:
            return self.b.load(self.buffer, at)
        known = self.b.known.get((self, at.index))
        if known is None:
            known = self.value.columns(at)
            self.b.store(known, self.buffer, at)
            self.b.known[(self, at.index)] = known
        return known


class RowBuilder:
    """Builds the body of one row's loop. `entry` takes constants, `row` is the row's index."""

    def __init__(self, entry: Builder, body: Builder, row: SSAValue) -> None:
        self.entry = entry
        self.builder = body
        self.row = row
        self.known: dict[object, SSAValue] = {}
        self.buffers: dict[SSAValue, SSAValue] = {}
        # A sweep is one walk over all columns of a row; an output is stored in exactly one of them.
        self.sweep = 0
        self._constants: dict[object, SSAValue] = {}
        self._outputs: list[_Output] = []

    def once(self, key: object, make: Callable[[], Operation]) -> SSAValue:
        """The result of `make`, inserted once a loop body."""
        if key not in self.known:
            self.known[key] = self.builder.insert(make()).results[0]
        return self.known[key]

    def insert(self, op: Operation) -> SSAValue:
        return self.builder.insert(op).results[0]

    def _constant(self, value: IntegerAttr | FloatAttr) -> SSAValue:
        if value not in self._constants:
            self._constants[value] = self.entry.insert(arith.ConstantOp(value)).result
        return self._constants[value]

    def index(self, value: int) -> SSAValue:
        """An index constant, in front of all loops."""
        return self._constant(IntegerAttr(value, IndexType()))

    def scalar(self, value: float) -> SSAValue:
        """An f32 constant, in front of all loops."""
        return self._constant(FloatAttr(value, f32))

    def constant(self, value: float) -> RowValue:
        """A row of one constant."""
        scalar = self.scalar(value)
        key = ("splat", scalar)
        if key not in self._constants:
            self._constants[key] = self.entry.insert(vector.BroadcastOp(scalar, VECTOR)).vector
        self.known[key] = self._constants[key]
        return _Splat(self, scalar)

    def splat(self, scalar: SSAValue) -> RowValue:
        """A row of one scalar."""
        return _Splat(self, scalar)

    def row_of(self, buffer: SSAValue) -> RowValue:
        """The current row of a buffer [T, D], or all of a buffer [D]."""
        return _Loaded(self, buffer)

    def map(self, operation: Callable[..., Operation], *operands: RowValue) -> RowValue:
        """`operation` applied to 16 columns of each operand."""
        return _Mapped(self, operation, operands)

    def add(self, x: RowValue, y: RowValue) -> RowValue:
        return self.map(arith.AddfOp, x, y)

    def sub(self, x: RowValue, y: RowValue) -> RowValue:
        return self.map(arith.SubfOp, x, y)

    def mul(self, x: RowValue, y: RowValue) -> RowValue:
        return self.map(arith.MulfOp, x, y)

    def div(self, x: RowValue, y: RowValue) -> RowValue:
        return self.map(arith.DivfOp, x, y)

    def exp(self, x: RowValue) -> RowValue:
        return self.map(math.ExpOp, x)

    def neg(self, x: RowValue) -> RowValue:
        return self.map(arith.NegfOp, x)

    def shifted(self, value: RowValue, first: int) -> RowValue:
        """`value` from column `first` on. Outputs so far are stored, by loops that walk all of them."""
        self.finish()
        return _Shifted(self, value, first)

    def output(self, value: RowValue, buffer: SSAValue) -> RowValue:
        """Mark `value` as a result that lives in `buffer`."""
        output = _Output(self, value, buffer)
        self._outputs.append(output)
        return output

    def is_loaded(self, value: RowValue) -> bool:
        """Whether `value` already lies in a buffer: an op that stores its own result returns such a row."""
        return isinstance(value, _Loaded)

    def load(self, buffer: SSAValue, at: Columns) -> SSAValue:
        indices = self._place(buffer, at)
        if at.live == LANES:
            return self.once(("load", buffer, at.index), lambda: vector.LoadOp(buffer, indices, VECTOR))
        zero = self.once(("splat", self.scalar(0.0)), lambda: vector.BroadcastOp(self.scalar(0.0), VECTOR))
        mask = self._mask(at.live)
        return self.once(
            ("load", buffer, at.index), lambda: vector.MaskedLoadOp(buffer, indices, mask, zero, VECTOR)
        )

    def store(self, value: SSAValue, buffer: SSAValue, at: Columns) -> None:
        indices = self._place(buffer, at)
        if at.live == LANES:
            self.builder.insert(vector.StoreOp(value, buffer, indices))
        else:
            self.builder.insert(vector.MaskedStoreOp(buffer, indices, self._mask(at.live), value))

    def _place(self, buffer: SSAValue, at: Columns) -> list[SSAValue]:
        rank = len(shape(buffer.type)) if is_buffer(buffer.type) else 0
        return [self.row, at.index] if rank == 2 else [at.index]

    def _mask(self, live: int) -> SSAValue:
        size = self.index(live)
        return self.once(("mask", live), lambda: vector.CreateMaskOp([size], MASK))

    def loop(
        self,
        start: int,
        stop: int,
        step: int,
        carried: Sequence[SSAValue],
        body: Callable[..., list[SSAValue]],
    ) -> Sequence[SSAValue]:
        """`scf.for`: `body(i, *carried)` builds one iteration and returns the carried values."""
        types = [value.type for value in carried]
        block = Block(arg_types=[IndexType(), *types])
        block.args[0].name_hint = "i"
        for arg in block.args[1:]:
            arg.name_hint = "acc"
        outer, known = self.builder, self.known
        self.builder, self.known = Builder(InsertPoint.at_end(block)), dict(known)
        self.builder.insert(scf.YieldOp(*body(*block.args)))
        self.builder, self.known = outer, known
        bounds = (self.index(start), self.index(stop), self.index(step))
        return self.builder.insert(scf.ForOp(*bounds, carried, Region(block))).results

    def for_columns(self, width: int, body: Callable[[Columns], None]) -> None:
        """Run `body` for every 16 columns of `width`, the last of them possibly partial."""
        full = width - width % LANES
        self.sweep += 1

        def iteration(i: SSAValue) -> list[SSAValue]:
            body(Columns(i))
            return []

        if full:
            self.loop(0, full, LANES, [], iteration)
        if full < width:
            self._scoped(lambda: body(Columns(self.index(full), width - full)))

    def _scoped(self, build: Callable[[], None]) -> None:
        known, self.known = self.known, dict(self.known)
        build()
        self.known = known

    def reduce(
        self, operation: Callable[..., Operation], start: float, value: RowValue, width: int
    ) -> SSAValue:
        """Fold `width` columns of `value` by `operation` in the order this module promises: f32."""
        zero = self.insert(vector.BroadcastOp(self.scalar(start), VECTOR))
        group = LANES * ACCUMULATORS
        full = width - width % group
        self.sweep += 1
        sums: list[SSAValue] = [zero] * ACCUMULATORS

        def iteration(i: SSAValue, *carried: SSAValue) -> list[SSAValue]:
            folded: list[SSAValue] = []
            for lane, held in enumerate(carried):
                offset = self.index(lane * LANES)
                at = i if lane == 0 else self.insert(arith.AddiOp(i, offset))
                folded.append(self.insert(operation(held, value.columns(Columns(at)))))
            return folded

        if full:
            sums = list(self.loop(0, full, group, sums, iteration))
        for lane, begin in enumerate(range(full, width, LANES)):
            sums[lane] = self._fold_rest(operation, sums[lane], value, zero, begin, min(LANES, width - begin))
        return self._join(operation, sums)

    def _fold_rest(
        self,
        operation: Callable[..., Operation],
        held: SSAValue,
        value: RowValue,
        neutral: SSAValue,
        begin: int,
        live: int,
    ) -> SSAValue:
        part = value.columns(Columns(self.index(begin), live))
        if live < LANES:
            kept = [lane if lane < live else LANES + lane for lane in range(LANES)]
            part = self.insert(vector.ShuffleOp(part, neutral, order_attr(kept), result_type=VECTOR))
        return self.insert(operation(held, part))

    def _join(self, operation: Callable[..., Operation], sums: Sequence[SSAValue]) -> SSAValue:
        first = self.insert(operation(sums[0], sums[1]))
        second = self.insert(operation(sums[2], sums[3]))
        total = self.insert(operation(first, second))
        for distance in (8, 4, 2, 1):
            order = [(lane + distance) % LANES for lane in range(LANES)]
            turned = self.insert(vector.ShuffleOp(total, total, order_attr(order), result_type=VECTOR))
            total = self.insert(operation(total, turned))
        return self.insert(vector.ExtractOp(total, [0], f32))

    def sum(self, value: RowValue, width: int) -> SSAValue:
        """The sum of `width` columns: f32."""
        return self.reduce(arith.AddfOp, 0.0, value, width)

    def finish(self) -> None:
        """Store every output that no reduction has stored yet, one loop for each width."""
        waiting = [output for output in self._outputs if output.stored_in is None]
        widths = {width_of(output.buffer): None for output in waiting}
        for width in widths:
            group = [output for output in waiting if width_of(output.buffer) == width]

            def body(at: Columns, group: Sequence[_Output] = tuple(group)) -> None:
                for output in group:
                    output.columns(at)

            self.for_columns(width, body)


def order_attr(lanes: Sequence[int]) -> DenseArrayBase[I64]:
    """Lane numbers as the attribute of `vector.shuffle`."""
    return DenseArrayBase.from_list(i64, lanes)


def width_of(buffer: SSAValue) -> int:
    """Columns of a buffer [T, D] or [D]."""
    return shape(buffer.type)[-1]
