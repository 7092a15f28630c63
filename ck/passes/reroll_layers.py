"""Roll repeated runs of calls into a function and a table of what differs: a model becomes a page of code.

A model's layers make the same calls on other weights. The longest run of calls that repeats (by what is
called, not on what) is cut into its periods; periods that differ in weights, caches and offsets alone become
one function, and each run of such periods one `rt.repeat`. What differs stands in the table, what does not in
the function. Before and after that run the next longest are rolled up in the same way: a training step goes
through the layers twice.

Before:
    func.func @f(%x: memref<1x16xf32>, %n: index) {
      %v = rt.weight @blk.0.norm : memref<16xf32>
      rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %v : memref<1x16xf32>, memref<16xf32>)
        live(%n) {rows_per_token = 1 : i64}
      rt.barrier
      %w = rt.weight @blk.1.norm : memref<16xf32>
      rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %w : memref<1x16xf32>, memref<16xf32>)
        live(%n) {rows_per_token = 1 : i64}
      rt.barrier
      func.return
    }
After:
    func.func private @f_layer(%x: memref<1x16xf32>, %n: index, %norm: memref<16xf32>) attributes {ck.layer} {
      rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %norm : memref<1x16xf32>, memref<16xf32>)
        live(%n) {rows_per_token = 1 : i64}
      rt.barrier
      func.return
    }
    func.func @f(%x: memref<1x16xf32>, %n: index) {
      rt.repeat @f_layer(%x, %n : memref<1x16xf32>, index) table [[@blk.0.norm], [@blk.1.norm]]
      func.return
    }

Leaves a function alone in which nothing repeats, and one that is rolled up already.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import numpy as np
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import (
    ArrayAttr,
    FunctionType,
    IndexType,
    IntegerAttr,
    ModuleOp,
    SymbolRefAttr,
    UnitAttr,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from ck.dtypes import BY_NAME
from ck.ir.check.tier import BITS, Tier
from ck.ir.rt.ops import (
    ArenaOp,
    BarrierOp,
    CacheOp,
    CallOp,
    LaunchOp,
    RepeatOp,
    ViewAtOp,
    ViewOp,
    WeightOp,
)

Item = CallOp | LaunchOp | BarrierOp
_STORAGE = re.compile(rf"_({'|'.join(BY_NAME)})$")
_LAYER = re.compile(r"^[a-z]+_\d+_")
# A second run is rolled up from so many calls on; fewer read as well where they stand.
SHORTEST = 16


def _resolve(view: ViewOp) -> tuple[SSAValue, int]:
    """The buffer under a chain of views, and the offset in it."""
    offset, source = view.offset_bytes, view.source
    while isinstance(source.owner, ViewOp):
        offset, source = offset + source.owner.offset_bytes, source.owner.source
    return source, offset


def _slot(value: SSAValue) -> tuple[object, Attribute | None]:
    """What must agree between two periods for an operand, and what may differ: the table's entry."""
    owner = value.owner
    if isinstance(owner, WeightOp | CacheOp):
        return (owner.name, value.type), owner.symbol
    if isinstance(owner, ViewOp):
        source, offset = _resolve(owner)
        return (id(source), value.type), IntegerAttr(offset, i64)
    return (id(value), value.type), None


def _coarse(item: Item) -> object:
    """What is called, without storage types: layers are alike even if their weights are stored otherwise."""
    if isinstance(item, BarrierOp):
        return "barrier"
    return item.name, _STORAGE.sub("", item.symbol_name), len(item.operands)


def _fine(item: Item) -> object:
    """All that has to agree for two calls to be one call of a table."""
    if isinstance(item, BarrierOp):
        return "barrier"
    return item.symbol_name, item.properties, [_slot(value)[0] for value in item.operands]


@dataclass(frozen=True)
class _Run:
    start: int
    period: int
    count: int


def _longest_repetition(keys: Sequence[int]) -> _Run | None:
    """The repeated run that covers most of `keys`; among equals the shortest period, then the first run."""
    numbers = np.asarray(keys)
    best: _Run | None = None
    for period in range(1, len(numbers) // 2 + 1):
        # Runs of equal places: where the padded comparison turns true, and where it turns false again.
        equal = np.concatenate(([False], numbers[:-period] == numbers[period:], [False]))
        turns = np.flatnonzero(equal[1:] != equal[:-1])
        for start, end in zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True):
            count = (end - start) // period + 1
            if count > 1 and (best is None or count * period > best.count * best.period):
                best = _Run(start, period, count)
    return best


def _numbered(keys: Sequence[object]) -> list[int]:
    """Small numbers that are equal exactly where `keys` are."""
    seen: list[object] = []
    numbers: list[int] = []
    for key in keys:
        if key not in seen:
            seen.append(key)
        numbers.append(seen.index(key))
    return numbers


class _Layer:
    """All periods of one kind: the function they become, and the table's row of each."""

    def __init__(self, periods: list[list[Item]], name: str) -> None:
        self.name = name
        self.items = periods[0]
        self.slots = [value for item in self.items for value in item.operands]
        entries = [[_slot(value)[1] for item in period for value in item.operands] for period in periods]
        keys: dict[object, int] = {}
        self.column_of: dict[int, int] = {}
        self.heads: list[int] = []
        for slot, values in enumerate(zip(*entries, strict=True)):
            if len(set(values)) > 1:
                key = (type(self.slots[slot].owner), values)
                if key not in keys:
                    keys[key] = len(keys)
                    self.heads.append(slot)
                self.column_of[slot] = keys[key]
        self.rows = [ArrayAttr([_known(row[slot]) for slot in self.heads]) for row in entries]
        self.shared = list(dict.fromkeys(v for slot in range(len(self.slots)) if (v := self._outer(slot))))

    def _outer(self, slot: int) -> SSAValue | None:
        """The outside value that operand `slot` needs: the buffer under a view, or the operand itself."""
        owner = self.slots[slot].owner
        if isinstance(owner, ViewOp):
            return _resolve(owner)[0]
        return None if isinstance(owner, WeightOp | CacheOp) else self.slots[slot]

    def function(self) -> func.FuncOp:
        """The layer as a function of the shared values and a row of the table."""
        types = [self._column_type(slot) for slot in self.heads]
        block = Block(arg_types=[*(value.type for value in self.shared), *types])
        hints = [value.name_hint for value in self.shared] + [self._column_hint(slot) for slot in self.heads]
        for arg, hint in zip(block.args, hints, strict=True):
            arg.name_hint = hint
        outer: dict[SSAValue, SSAValue] = dict(zip(self.shared, block.args, strict=False))
        columns = block.args[len(self.shared) :]
        made: dict[object, SSAValue] = {}
        slot = 0
        for item in self.items:
            operands: list[SSAValue] = []
            for _ in item.operands:
                operands.append(self._operand(slot, block, outer, columns, made))
                slot += 1
            block.add_op(
                type(item).create(operands=operands, properties=item.properties, attributes=item.attributes)
            )
        block.add_op(func.ReturnOp())
        of = FunctionType.from_lists(block.arg_types, [])
        function = func.FuncOp(self.name, of, Region(block), visibility="private")
        function.attributes["ck.layer"] = UnitAttr()
        return function

    def _column_type(self, slot: int) -> Attribute:
        """Of a view only the offset differs."""
        value = self.slots[slot]
        return IndexType() if isinstance(value.owner, ViewOp) else value.type

    def _column_hint(self, slot: int) -> str | None:
        hint = self.slots[slot].name_hint
        return _LAYER.sub("", hint) if hint else None

    def _operand(
        self,
        slot: int,
        block: Block,
        outer: Mapping[SSAValue, SSAValue],
        columns: Sequence[SSAValue],
        made: dict[object, SSAValue],
    ) -> SSAValue:
        """Operand `slot` inside the function, made once."""
        value = self.slots[slot]
        owner, column = value.owner, self.column_of.get(slot)
        if not isinstance(owner, ViewOp):
            if column is not None:
                return columns[column]
            if not isinstance(owner, WeightOp | CacheOp):
                return outer[value]
        key = (column if column is not None else _slot(value)[1], type(owner), value.type)
        if key not in made:
            op = self._leaf(owner, value, outer, None if column is None else columns[column])
            op.results[0].name_hint = value.name_hint
            block.add_op(op)
            made[key] = op.results[0]
        return made[key]

    def _leaf(
        self,
        owner: Operation | Block,
        value: SSAValue,
        outer: Mapping[SSAValue, SSAValue],
        column: SSAValue | None,
    ) -> Operation:
        if not isinstance(owner, ViewOp):
            assert isinstance(owner, Operation)
            return owner.clone()
        source, offset = _resolve(owner)
        if column is None:
            return ViewOp.at(outer[source], offset, value.type)
        return ViewAtOp.create(operands=[outer[source], column], result_types=[value.type])


def _known(entry: Attribute | None) -> Attribute:
    assert entry is not None
    return entry


@dataclass(frozen=True)
class RerollLayersPass(ModulePass):
    """`rt-reroll-layers`"""

    name = "rt-reroll-layers"
    TIER: ClassVar[Tier] = BITS

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in list(op.ops):
            if isinstance(function, func.FuncOp) and function.body.blocks and not _is_rolled(function):
                for layer in _reroll(function):
                    Rewriter.insert_op(layer, InsertPoint.before(function))


def _is_rolled(function: func.FuncOp) -> bool:
    """Whether `function` is a layer, or calls some."""
    calls = any(isinstance(op, RepeatOp) for op in function.body.block.ops)
    return calls or "ck.layer" in function.attributes


def _runs(keys: Sequence[int], start: int, end: int, least: int) -> list[_Run]:
    """Repetitions in keys[start:end] that cover `least` calls or more, the longest first chosen, in order."""
    run = _longest_repetition(keys[start:end])
    if run is None or run.count * run.period < least:
        return []
    first = start + run.start
    last = first + run.count * run.period
    before, after = _runs(keys, start, first, SHORTEST), _runs(keys, last, end, SHORTEST)
    return [*before, _Run(first, run.period, run.count), *after]


def _reroll(function: func.FuncOp) -> list[func.FuncOp]:
    """Roll up `function` in place; returns the layer functions it now calls."""
    items = [op for op in function.body.block.ops if isinstance(op, CallOp | LaunchOp | BarrierOp)]
    keys = _numbered([_coarse(item) for item in items])
    functions: list[func.FuncOp] = []
    rolled = 0
    for run in _runs(keys, 0, len(keys), 2):
        name = f"{function.sym_name.data}_layer" + (f"_{rolled + 1}" if rolled else "")
        made = _roll(items, run, name)
        rolled += bool(made)
        functions += made
    _erase_unused(function.body.block)
    return functions


def _roll(items: Sequence[Item], run: _Run, name: str) -> list[func.FuncOp]:
    """Put calls of layer functions in place of one run; returns the functions."""
    cuts = [run.start + run.period * number for number in range(run.count)]
    periods = [list(items[cut : cut + run.period]) for cut in cuts]
    kinds = _numbered([[_fine(item) for item in period] for period in periods])
    layers: dict[int, _Layer] = {}
    for kind in sorted(set(kinds)):
        same = [period for period, k in zip(periods, kinds, strict=True) if k == kind]
        if len(same) > 1:
            suffix = f"_{chr(ord('a') + len(layers))}" if max(kinds) else ""
            layers[kind] = _Layer(same, f"{name}{suffix}")
    functions = [layer.function() for layer in layers.values()]
    _call_layers(periods, kinds, layers)
    return functions


def _call_layers(periods: list[list[Item]], kinds: list[int], layers: dict[int, _Layer]) -> None:
    """One `rt.repeat` in place of each run of periods of one kind; a kind that occurs once stays as it is."""
    taken = dict.fromkeys(layers, 0)
    for kind, run in groupby(zip(kinds, periods, strict=True), key=lambda pair: pair[0]):
        layer = layers.get(kind)
        if layer is None:
            continue
        own = [period for _, period in run]
        table = ArrayAttr(layer.rows[taken[kind] : taken[kind] + len(own)])
        taken[kind] += len(own)
        properties = {"symbol": SymbolRefAttr(layer.name), "table": table}
        repeat = RepeatOp(operands=[layer.shared], properties=properties)
        Rewriter.insert_op(repeat, InsertPoint.before(own[0][0]))
        for item in (item for period in own for item in period):
            Rewriter.erase_op(item)


def _erase_unused(block: Block) -> None:
    for op in reversed(list(block.ops)):
        if isinstance(op, WeightOp | CacheOp | ViewOp | ArenaOp) and not any(r.uses for r in op.results):
            Rewriter.erase_op(op)
