"""Put a barrier where one thread needs what another wrote, and nowhere else.

Every thread runs every call on its own slice. Two calls need a barrier between them when they touch the same
bytes, one of them writes, and the bytes are not those of the thread's own rows: two calls split by rows of
tokens agree on who has which row, so a chain of row-wise calls runs without one. All rows of a single token
are one thread's. Bytes count, not names: a buffer that takes over another's place in the arena waits for it.

Before:
    func.func @f(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) {
      %arena = rt.arena : memref<512xi8>
      %a = rt.view %arena[0] : memref<512xi8> -> memref<4x16xf32>
      rt.launch @g outs(%a : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      rt.launch @g outs(%a : memref<4x16xf32>) ins(%a : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      rt.call @k outs(%y : memref<4x16xf32>) ins(%a, %n : memref<4x16xf32>, index)
        {immediates = {}, split = "cols"}
      func.return
    }
After:
    func.func @f(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) {
      %arena = rt.arena : memref<512xi8>
      %a = rt.view %arena[0] : memref<512xi8> -> memref<4x16xf32>
      rt.launch @g outs(%a : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      rt.launch @g outs(%a : memref<4x16xf32>) ins(%a : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      rt.barrier
      rt.call @k outs(%y : memref<4x16xf32>) ins(%a, %n : memref<4x16xf32>, index)
        {immediates = {}, split = "cols"}
      func.return
    }

Drops the barriers it finds and sets its own, so running it twice changes nothing. The start and the end of a
function need none: the pool starts and joins its threads there. Raises where layers are rolled up: what one
waits for lies in the turn before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.exceptions import VerifyException

from ck.ir.check.tier import BITS, Tier
from ck.ir.functions import bodies
from ck.ir.op import type_bytes
from ck.ir.rt.ops import BarrierOp, CacheOp, RepeatOp, ViewOp, WeightOp, Work
from ck.ir.types import CacheType, is_buffer, shape


@dataclass(frozen=True)
class Access:
    """Bytes [begin, end) of `base` that a call touches.

    `row_bytes` are those of one token's rows when threads split the call by rows, else 0; `tokens` is
    how many tokens there may be.
    """

    base: object
    begin: int
    end: int
    writes: bool
    row_bytes: int
    tokens: int

    def conflicts(self, other: "Access") -> bool:
        """Whether a barrier has to stand between the two."""
        if self.base != other.base or not (self.writes or other.writes):
            return False
        if self.begin >= other.end or other.begin >= self.end:
            return False
        if not self.row_bytes or not other.row_bytes:
            return True
        # All rows of a single token are one thread's.
        return self.tokens > 1 and (self.row_bytes, self.begin) != (other.row_bytes, other.begin)


def accesses(op: Work, capacity: int, states: frozenset[str] = frozenset()) -> Iterator[Access]:
    """What one call touches; weights are read only, but for `states`, and scalars are nobody's."""
    for values, writes in ((op.writes, True), (op.reads, False)):
        for value in values:
            owner = value.owner
            if isinstance(owner, WeightOp):
                if owner.symbol_name in states:
                    yield Access(("weight", owner.symbol_name), 0, 1, writes, 0, capacity)
            elif isinstance(value.type, CacheType):
                base: object = owner.symbol_name if isinstance(owner, CacheOp) else value
                yield Access(base, 0, 1, writes, 0, capacity)
            elif is_buffer(value.type):
                yield _buffer_access(value, writes, op.split_rows, capacity)


def written_weights(block: Block) -> frozenset[str]:
    """Names of the weights that calls of `block` write."""
    owners = (value.owner for op in block.ops if isinstance(op, Work) for value in op.writes)
    return frozenset(owner.symbol_name for owner in owners if isinstance(owner, WeightOp))


def _buffer_access(value: SSAValue, writes: bool, split_rows: bool, capacity: int) -> Access:
    n_bytes = type_bytes(value.type)
    sizes = shape(value.type)
    by_rows = split_rows and sizes[0] % capacity == 0
    offset, base = 0, value
    while isinstance(base.owner, ViewOp):
        offset, base = offset + base.owner.offset_bytes, base.owner.source
    row_bytes = n_bytes // capacity if by_rows else 0
    return Access(base, offset, offset + n_bytes, writes, row_bytes, capacity)


@dataclass(frozen=True)
class ScheduleThreadsPass(ModulePass):
    """`rt-schedule-threads`"""

    name = "rt-schedule-threads"
    TIER: ClassVar[Tier] = BITS
    APART: ClassVar[bool] = True

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if any(isinstance(inner, RepeatOp) for block in bodies(op) for inner in block.ops):
            raise VerifyException("rt-schedule-threads: layers are rolled up: run it before rt-reroll-layers")
        for block in bodies(op):
            _schedule(block)


def _schedule(block: Block) -> None:
    for op in list(block.ops):
        if isinstance(op, BarrierOp):
            Rewriter.erase_op(op)
    if not block.args or not is_buffer(block.args[0].type):
        return
    capacity = shape(block.args[0].type)[0]
    since: list[Access] = []
    states = written_weights(block)
    for op in list(block.ops):
        if not isinstance(op, Work):
            continue
        wanted = list(accesses(op, capacity, states))
        if any(new.conflicts(old) for new in wanted for old in since):
            Rewriter.insert_op(BarrierOp(), InsertPoint.before(op))
            since = []
        since += wanted
