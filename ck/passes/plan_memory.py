"""Give every buffer its place in one arena, so that buffers which are never alive together share bytes.

Greedy by size over live intervals (largest first, each at the lowest free offset), in units of 64 bytes, the
cache line; then checked: no two buffers that are alive together overlap. A view keeps its buffer alive.
Source: Pisarchyk and Lee 2020, arXiv:2001.03288, section 4.3 (greedy by size).

Before:
    func.func @f(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) {
      %a = rt.alloc : memref<4x16xf32>
      rt.launch @g outs(%a : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      %b = rt.alloc : memref<4x16xf32>
      rt.launch @g outs(%b : memref<4x16xf32>) ins(%a : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      rt.launch @g outs(%y : memref<4x16xf32>) ins(%b : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      func.return
    }
After:
    func.func @f(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) {
      %arena = rt.arena : memref<512xi8>
      %a = rt.view %arena[0] : memref<512xi8> -> memref<4x16xf32>
      rt.launch @g outs(%a : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      %b = rt.view %arena[256] : memref<512xi8> -> memref<4x16xf32>
      rt.launch @g outs(%b : memref<4x16xf32>) ins(%a : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      rt.launch @g outs(%y : memref<4x16xf32>) ins(%b : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      func.return
    }

Leaves a function without `rt.alloc` alone. Raises for one with barriers, which were put before
buffers shared anything; and InternalError when two live buffers overlap: a defect of this pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import MemRefType, ModuleOp, i8
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.exceptions import VerifyException

from ck.errors import InternalError
from ck.ir.check.tier import BITS, Tier
from ck.ir.functions import bodies
from ck.ir.op import type_bytes
from ck.ir.rt.ops import AllocOp, ArenaOp, BarrierOp, ViewOp

ALIGN = 64
# On 120 functions of random graphs (tests/passes) the arena exceeds the bound by up to 21 % without a second
# attempt, by 11 % with 40, by 7 % with 200; models meet it at once. An attempt's time is the square of the
# buffers: a training step has a thousand.
ATTEMPTS = 200
PAIRS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A buffer alive from op `start` to op `end` of its block, both included; `offset` once it is placed."""

    op: AllocOp
    n_bytes: int
    start: int
    end: int
    offset: int = 0

    def meets(self, other: "Interval") -> bool:
        """Whether both are alive at some op."""
        return self.start <= other.end and other.start <= self.end


def intervals(block: Block) -> list[Interval]:
    """The live interval of every `rt.alloc` in `block`."""
    order: dict[Operation, int] = {op: place for place, op in enumerate(block.ops)}
    found: list[Interval] = []
    for op in block.ops:
        if isinstance(op, AllocOp):
            users = _users(op.buffer)
            places = [order[user] for user in users] or [order[op]]
            size = -(-type_bytes(op.buffer.type) // ALIGN) * ALIGN
            found.append(Interval(op, size, min(places), max(places)))
    return found


def _users(value: SSAValue) -> list[Operation]:
    users: list[Operation] = []
    for use in value.uses:
        user = use.operation
        users += _users(user.buffer) if isinstance(user, ViewOp) else [user]
    return users


def place(buffers: Sequence[Interval]) -> list[Interval]:
    """`buffers` with offsets, none of which overlap while both are alive.

    Largest first. Where that needs more than is alive at once, the buffer that reaches highest goes in
    earlier and all are placed again, a bounded number of times.
    """
    order = sorted(buffers, key=lambda b: (-b.n_bytes, b.start))
    best = current = _stack(order)
    bound = peak_bytes(buffers)
    for attempt in range(min(ATTEMPTS, PAIRS // max(1, len(order)) ** 2)):
        if end_of(best) <= bound:
            break
        top = max(range(len(order)), key=lambda at: current[at].offset + current[at].n_bytes)
        order.insert(top // 2 if attempt % 2 else 0, order.pop(top))
        current = _stack(order)
        best = min(best, current, key=end_of)
    return best


def _stack(order: Sequence[Interval]) -> list[Interval]:
    """Each buffer in turn at the lowest offset that is free while it is alive."""
    placed: list[Interval] = []
    for buffer in order:
        taken = sorted((p.offset, p.offset + p.n_bytes) for p in placed if p.meets(buffer))
        offset = 0
        for begin, end in taken:
            if offset + buffer.n_bytes <= begin:
                break
            offset = max(offset, end)
        placed.append(replace(buffer, offset=offset))
    return placed


def end_of(placed: Sequence[Interval]) -> int:
    """Bytes of the arena that holds `placed`."""
    return max((buffer.offset + buffer.n_bytes for buffer in placed), default=0)


def peak_bytes(buffers: Sequence[Interval]) -> int:
    """The most bytes alive at one op: no plan can be smaller."""
    points = {buffer.start for buffer in buffers}
    return max((sum(b.n_bytes for b in buffers if b.start <= at <= b.end) for at in points), default=0)


def _check(buffers: Sequence[Interval]) -> None:
    """Walk the buffers by the start of their lives, holding each new one against those still alive."""
    alive: list[Interval] = []
    for new in sorted(buffers, key=lambda b: b.start):
        alive = [other for other in alive if other.end >= new.start]
        for other in alive:
            if new.offset < other.offset + other.n_bytes and other.offset < new.offset + new.n_bytes:
                raise InternalError(
                    f"rt-plan-memory: {new.op.buffer} and {other.op.buffer} overlap while both are alive"
                )
        alive.append(new)


@dataclass(frozen=True)
class PlanMemoryPass(ModulePass):
    """`rt-plan-memory`"""

    name = "rt-plan-memory"
    TIER: ClassVar[Tier] = BITS

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for block in bodies(op):
            _plan(block)


def _plan(block: Block) -> None:
    placed = place(intervals(block))
    if not placed:
        return
    if any(isinstance(op, BarrierOp) for op in block.ops):
        raise VerifyException(
            "rt-plan-memory: barriers stand before buffers share bytes: run it before rt-schedule-threads"
        )
    _check(placed)
    arena = ArenaOp.create(result_types=[MemRefType(i8, [end_of(placed)])])
    arena.buffer.name_hint = "arena"
    Rewriter.insert_op(arena, InsertPoint.at_start(block))
    for buffer in placed:
        view = ViewOp.at(arena.buffer, buffer.offset, buffer.op.buffer.type)
        view.buffer.name_hint = buffer.op.buffer.name_hint
        Rewriter.replace_op(buffer.op, view)
