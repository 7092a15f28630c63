"""Which thread touches which bytes, call by call: a judge of barriers that shares nothing with its scheduler.

A scheduled entry is unrolled into the calls and barriers that a thread meets. In a call split by rows thread
`tid` of `nth` has rows [n tid / nth, n (tid + 1) / nth) of tokens and touches those alone of every buffer
that has rows of tokens; in any other call every thread may touch every byte of every operand. Calls without a
barrier between them run in any order: two are in conflict when different threads touch one byte and one of
them writes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from xdsl.dialects import func
from xdsl.dialects.builtin import IndexType, IntegerAttr, ModuleOp, SymbolRefAttr
from xdsl.ir import Block, Operation, SSAValue

from ck.ir.evaluate import find_function
from ck.ir.op import type_bytes
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
)
from ck.ir.types import CacheType, is_buffer, shape

EVERY = -1


@dataclass(frozen=True)
class Place:
    """Where a value lies: bytes from `offset` on of `base`, or, for weights and numbers, what it is."""

    base: object
    offset: int = 0
    constant: bool = False


@dataclass(frozen=True)
class Step:
    """One call with the places of its outputs and inputs, or a barrier (`op` is a BarrierOp)."""

    op: Operation
    outs: tuple[tuple[SSAValue, Place], ...] = ()
    ins: tuple[tuple[SSAValue, Place], ...] = ()


@dataclass(frozen=True)
class Touch:
    """Bytes [begin, end) of `base` touched by `thread`."""

    base: object
    begin: int
    end: int
    thread: int
    writes: bool

    def races(self, other: "Touch") -> bool:
        return (
            self.base == other.base
            and (self.writes or other.writes)
            and (self.thread != other.thread or self.thread == EVERY)
            and max(self.begin, other.begin) < min(self.end, other.end)
        )


def can_be_walked(function: func.FuncOp) -> bool:
    """Whether a function is one that schedules calls: neither on tensors nor a row kernel."""
    return all(op.name.startswith("rt.") or op.name == "func.return" for op in function.body.block.ops)


def steps(module: ModuleOp, entry: str) -> list[Step]:
    """What a thread that runs `entry` meets, layers unrolled."""
    block = find_function(module, entry).body.block
    return list(_walk(module, block, {arg: Place((entry, arg.index)) for arg in block.args}))


def _walk(module: ModuleOp, block: Block, places: dict[SSAValue, Place]) -> Iterator[Step]:
    for op in block.ops:
        match op:
            case ArenaOp():
                places[op.buffer] = Place("arena")
            case AllocOp():
                places[op.buffer] = Place(op)
            case ViewOp():
                at = places[op.source]
                places[op.buffer] = Place(at.base, at.offset + op.offset_bytes)
            case ViewAtOp():
                at = places[op.source]
                places[op.buffer] = Place(at.base, at.offset + places[op.offset].offset)
            case WeightOp():
                places[op.value] = Place(op.symbol_name, constant=True)
            case CacheOp():
                places[op.value] = Place(("cache", op.symbol_name))
            case BarrierOp():
                yield Step(op)
            case CallOp() | LaunchOp():
                outs, ins = (tuple((value, places[value]) for value in given) for given in (op.outs, op.ins))
                yield Step(op, outs, ins)
            case RepeatOp():
                yield from _repeat(module, op, places)
            case _:
                assert op.name == "func.return", op.name


def _repeat(module: ModuleOp, op: RepeatOp, places: dict[SSAValue, Place]) -> Iterator[Step]:
    block = find_function(module, op.symbol_name).body.block
    shared = [places[value] for value in op.shared]
    columns = block.args[len(shared) :]
    for row in op.rows:
        entries = [_entry(entry, column) for entry, column in zip(row, columns, strict=True)]
        yield from _walk(module, block, dict(zip(block.args, [*shared, *entries], strict=True)))


def _entry(entry: object, column: SSAValue) -> Place:
    if isinstance(entry, IntegerAttr):
        assert isinstance(column.type, IndexType)
        return Place("number", entry.value.data, constant=True)
    assert isinstance(entry, SymbolRefAttr)
    name = entry.root_reference.data
    is_cache = isinstance(column.type, CacheType)
    return Place(("cache", name)) if is_cache else Place(name, constant=True)


def states(walk: Sequence[Step]) -> frozenset[object]:
    """The weights that some call writes."""
    return frozenset(place.base for step in walk for _, place in step.outs if place.constant)


def touches(
    step: Step, capacity: int, n: int, nth: int, written: frozenset[object] = frozenset()
) -> Iterator[Touch]:
    """What the threads touch in one call over `n` live rows of `capacity`; of weights, those `written`."""
    by_rows = isinstance(step.op, LaunchOp) or (isinstance(step.op, CallOp) and step.op.split.data == "rows")
    for operands, writes in ((step.outs, True), (step.ins, False)):
        for value, place in operands:
            of = value.type
            if isinstance(of, IndexType) or (place.constant and place.base not in written):
                continue
            n_bytes = type_bytes(of)
            if by_rows and is_buffer(of) and shape(of)[0] % capacity == 0:
                token = n_bytes // capacity
                for tid in range(nth):
                    begin, end = n * tid // nth * token, n * (tid + 1) // nth * token
                    yield Touch(place.base, place.offset + begin, place.offset + end, tid, writes)
            else:
                yield Touch(place.base, place.offset, place.offset + n_bytes, EVERY, writes)


@dataclass(frozen=True)
class Race:
    """Two calls without a barrier between them that touch the same bytes, and their texts."""

    first: str
    op: str
    n: int
    nth: int

    def __str__(self) -> str:
        return (
            f"{self.nth} threads meet on {self.n} rows: no barrier stands between {self.first} and {self.op}"
        )


# Live rows, as parts of the capacity, and threads.
CREWS = ((1.0, 2), (1.0, 3), (0.7, 2), (0.0, 2))


def crews(capacity: int) -> list[tuple[int, int]]:
    """(live rows, threads) to try."""
    return [(max(1, round(part * capacity)), nth) for part, nth in CREWS]


def first_race(module: ModuleOp, entry: str) -> Race | None:
    """The first two calls of a scheduled entry that different threads may run at once and must not."""
    walk = steps(module, entry)
    capacity = shape(find_function(module, entry).body.block.args[0].type)[0]
    for n, nth in crews(capacity):
        for calls in _between_barriers(walk, capacity, n, nth):
            for (first, before), (second, after) in combinations(calls, 2):
                if any(a.races(b) for a in before for b in after):
                    return Race(_line(first.op), _line(second.op), n, nth)
    return None


def kept_apart(module: ModuleOp, entry: str) -> bool:
    """Whether a module has that entry, with barriers, and threads which run it do not meet."""
    found = [op for op in module.ops if isinstance(op, func.FuncOp) and op.sym_name.data == entry]
    if not found or not can_be_walked(found[0]):
        return False
    barred = any(isinstance(step.op, BarrierOp) for step in steps(module, entry))
    return barred and first_race(module, entry) is None


def _line(op: Operation) -> str:
    return str(op).splitlines()[0]


def _between_barriers(
    walk: Sequence[Step], capacity: int, n: int, nth: int, without: Operation | None = None
) -> Iterator[list[tuple[Step, list[Touch]]]]:
    """The calls between two barriers, with what they touch; `without` one of the barriers."""
    written, since = states(walk), list[tuple[Step, list[Touch]]]()
    for step in walk:
        if not isinstance(step.op, BarrierOp):
            since.append((step, list(touches(step, capacity, n, nth, written))))
        elif step.op is not without:
            yield since
            since = []
    yield since


def races(walk: Sequence[Step], capacity: int, n: int, nth: int, without: Operation | None = None) -> int:
    """Pairs of calls in conflict, with every occurrence of barrier `without` taken away."""
    return sum(
        any(a.races(b) for a in first for b in second)
        for calls in _between_barriers(walk, capacity, n, nth, without)
        for (_, first), (_, second) in combinations(calls, 2)
    )
