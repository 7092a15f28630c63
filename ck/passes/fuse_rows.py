"""Gather chains of row-wise ops into `ck.fused` groups, each of which becomes one generated kernel.

What one row-wise op makes, the next finds in registers or in the first cache. A group grows from a producer
to its consumer while their results have the same number of rows and no path leaves the group and comes back
(convexity). A row-wise op without such a neighbour becomes a group of its own: what is row-wise is generated.

Before:
    func.func @f(%g: tensor<2x3xf32>, %u: tensor<2x3xf32>) -> tensor<2x3xf32> {
      %s = ck.silu %g : tensor<2x3xf32> -> tensor<2x3xf32>
      %y = ck.mul %s, %u : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
      func.return %y : tensor<2x3xf32>
    }
After:
    func.func @f(%g: tensor<2x3xf32>, %u: tensor<2x3xf32>) -> tensor<2x3xf32> {
      %y = ck.fused(%g, %u) {
      ^bb0(%a: tensor<2x3xf32>, %b: tensor<2x3xf32>):
        %s = ck.silu %a : tensor<2x3xf32> -> tensor<2x3xf32>
        %m = ck.mul %s, %b : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        ck.yield %m : tensor<2x3xf32>
      } : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
      func.return %y : tensor<2x3xf32>
    }

Keeps two groups apart when their rows differ in number, or when joining them would close a cycle; and an op
that the backward pass recomputes from those of the forward pass: with them it would be done at once and kept.
Leaves out what nothing reads.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from ck.ir.check.tier import BITS, Tier
from ck.ir.functions import bodies
from ck.ir.op import RowWise, is_recomputed
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.types import shape


def rows_of(op: Operation) -> int:
    """Rows of a row-wise op's results."""
    return shape(op.results[0].type)[0]


def why_apart(producer: Operation, consumer: Operation) -> str:
    """Why two neighbours are not in one group: for people (`explain`)."""
    for op in (producer, consumer):
        if not isinstance(op, RowWise | FusedOp):
            return f"{op.name} is not row-wise"
    first, second = rows_of(producer), rows_of(consumer)
    if first != second:
        return f"{first} rows against {second}"
    if is_recomputed(consumer) and not is_recomputed(producer):
        return f"{consumer.name} is recomputed later"
    return "joining them would close a cycle"


def _users(block: Block) -> dict[Operation, list[Operation]]:
    """Each op of `block` with the ops that use a result of it."""
    users: dict[Operation, list[Operation]] = {op: [] for op in block.ops}
    for op in block.ops:
        for operand in op.operands:
            if isinstance(operand.owner, Operation):
                users[operand.owner].append(op)
    return users


class _Groups:
    """Disjoint sets of ops that only grow while they stay convex."""

    def __init__(self, block: Block) -> None:
        self.users = _users(block)
        self.order = {op: place for place, op in enumerate(block.ops)}
        self.members: dict[Operation, list[Operation]] = {}

    def add(self, op: Operation) -> None:
        self.members[op] = [op]

    def try_join(self, producer: Operation, consumer: Operation) -> None:
        first, second = self.members[producer], self.members[consumer]
        if first is second or rows_of(producer) != rows_of(consumer):
            return
        if is_recomputed(consumer) and not is_recomputed(producer):
            return
        joined = sorted(first + second, key=self.order.__getitem__)
        if not self._convex(joined):
            return
        for member in joined:
            self.members[member] = joined

    def _convex(self, group: list[Operation]) -> bool:
        """Whether no path leaves `group` and returns, taking the groups made so far as single steps."""
        inside = set(group)
        left = [user for op in group for user in self.users[op] if user not in inside]
        seen: set[Operation] = set()
        while left:
            step = left.pop()
            if step in seen:
                continue
            for op in self.members.get(step, [step]):
                seen.add(op)
                for user in self.users[op]:
                    if user in inside:
                        return False
                    left.append(user)
        return True

    def in_order(self) -> list[list[Operation]]:
        """All ops of the block, those of a group together, each step after the steps it uses.

        Among steps that are free to go, the one whose last op came first: what was in order stays so.
        """
        step_of = {op: self.members.get(op, [op]) for op in self.users}
        uses: dict[int, set[int]] = {id(step): set() for step in step_of.values()}
        steps = {id(step): step for step in step_of.values()}
        for op, users in self.users.items():
            for user in users:
                if step_of[user] is not step_of[op]:
                    uses[id(step_of[user])].add(id(step_of[op]))
        sorter = TopologicalSorter(uses)
        sorter.prepare()
        free: list[tuple[int, int]] = []
        ordered: list[list[Operation]] = []
        while sorter.is_active():
            for step in sorter.get_ready():
                heappush(free, (self.order[steps[step][-1]], step))
            _, first = heappop(free)
            ordered.append(steps[first])
            sorter.done(first)
        return ordered


def _outline(group: list[Operation]) -> FusedOp | None:
    """The `ck.fused` of `group`, and its results in place of the group's; None where nothing reads those."""
    inside = set(group)
    inputs = list(dict.fromkeys(v for op in group for v in op.operands if v.owner not in inside))
    outputs = [result for op in group for result in op.results if _used_outside(result, inside)]
    if not outputs:
        _erase(group)
        return None
    block = Block(arg_types=[value.type for value in inputs])
    mapping: dict[SSAValue, SSAValue] = {}
    for value, arg in zip(inputs, block.args, strict=True):
        arg.name_hint = value.name_hint
        mapping[value] = arg
    for op in group:
        block.add_op(op.clone(value_mapper=mapping))
    block.add_op(YieldOp.create(operands=[mapping[value] for value in outputs]))
    fused = FusedOp.create(
        operands=inputs, result_types=[value.type for value in outputs], regions=[Region(block)]
    )
    for old, new in zip(outputs, fused.results, strict=True):
        new.name_hint = old.name_hint
        old.replace_uses_with_if(new, lambda use: use.operation not in inside)
    _erase(group)
    return fused


def _erase(group: list[Operation]) -> None:
    for op in reversed(group):
        op.erase()


def _used_outside(value: SSAValue, inside: Iterable[Operation]) -> bool:
    return any(use.operation not in inside for use in value.uses)


@dataclass(frozen=True)
class FuseRowsPass(ModulePass):
    """`ck-fuse-rows`"""

    name = "ck-fuse-rows"
    TIER: ClassVar[Tier] = BITS

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for block in bodies(op):
            groups = _Groups(block)
            row_wise = [inner for inner in block.ops if isinstance(inner, RowWise)]
            for inner in row_wise:
                groups.add(inner)
            for inner in row_wise:
                for operand in inner.operands:
                    if isinstance(operand.owner, Operation) and operand.owner in groups.members:
                        groups.try_join(operand.owner, inner)
            ordered = groups.in_order()
            for inner in list(block.ops):
                inner.detach()
            for step in ordered:
                made = _outline(step) if step[0] in groups.members else step[0]
                if made is not None:
                    block.add_op(made)
