"""Append to a function the gradient of its results with respect to its weights, by the ops' own `vjp`.

The function takes a cotangent for each of its results as a further argument and returns, after the results, a
gradient for each weight. What the gradient reads of the forward pass is simply used again; parts of it on
which no weight depends (here the rows' own gradient) are not made.

Before:
    func.func @f(%x: tensor<2x32xf32>) -> tensor<2x16xf32> attributes {ck.trainable = [@up]} {
      %w = ck.weight @up : !ck.q<16x32xf32, rows>
      %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
      func.return %y : tensor<2x16xf32>
    }
After:
    func.func @f(%x: tensor<2x32xf32>, %dy: tensor<2x16xf32>) -> (tensor<2x16xf32>, !ck.q<16x32xf32, rows>)
        attributes {ck.gradients = [@up]} {
      %w = ck.weight @up : !ck.q<16x32xf32, rows>
      %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
      %dw = ck.matmul %dy, %x {form = "tn"}
        : (tensor<2x16xf32>, tensor<2x32xf32>) -> !ck.q<16x32xf32, rows>
      func.return %y, %dw : tensor<2x16xf32>, !ck.q<16x32xf32, rows>
    }

Raises for an op without a gradient between a weight and a result, and for a weight on which no result
depends: there are no partial gradients; for buffers; and for a function that has gradients, which have none.
Leaves functions without `ck.trainable` alone unless `wrt` names weights.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from xdsl.builder import Builder
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, SymbolRefAttr
from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.exceptions import VerifyException

from ck.ir.check.checker import Judge
from ck.ir.check.slopes import judge_slopes
from ck.ir.check.tier import BITS, Tier
from ck.ir.functions import symbol_names
from ck.ir.op import Accumulates, CkOp, Differentiable
from ck.ir.ops.accumulate import AccumulateOp
from ck.ir.ops.add import AddOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import is_tensor, shape

TRAINABLE, GRADIENTS = "ck.trainable", "ck.gradients"


def symbols(function: func.FuncOp, attribute: str) -> list[str]:
    """The names that an attribute of `function` lists."""
    return symbol_names(function.attributes.get(attribute))


def symbol_list(names: Iterable[str]) -> ArrayAttr[SymbolRefAttr]:
    """Names as such an attribute."""
    return ArrayAttr([SymbolRefAttr(name) for name in names])


def require_values(name: str, function: func.FuncOp) -> None:
    """Raise VerifyException when there are no values left in `function` for the pass `name` to work on."""
    if not any(isinstance(op, CkOp) for op in function.body.block.ops):
        raise VerifyException(f"{name}: @{function.sym_name.data} holds buffers: run it before ck-bufferize")


@dataclass
class _Cotangents:
    """What has flowed back to each value so far, in program order; sums are made when they are asked for."""

    builder: Builder
    parts: dict[SSAValue, list[SSAValue]] = field(default_factory=dict[SSAValue, list[SSAValue]])

    def add(self, value: SSAValue, part: SSAValue) -> None:
        self.parts.setdefault(value, []).append(part)

    def of(self, value: SSAValue) -> SSAValue | None:
        parts = self.parts.get(value)
        if not parts:
            return None
        total = parts[0]
        for part in parts[1:]:
            total = self._sum(total, part)
        # An argument keeps its name, by which it is given, when an add hands it on.
        if value.name_hint and not isinstance(total, BlockArgument):
            total.name_hint = f"d_{value.name_hint}"
        self.parts[value] = [total]
        return total

    def _sum(self, total: SSAValue, part: SSAValue) -> SSAValue:
        if is_tensor(part.type) and len(shape(part.type)) == 2:
            return self.builder.insert(AddOp.build_op(total, part)).y
        producer = part.owner
        if isinstance(producer, Accumulates) and producer.accumulator is None:
            # Only the part's own op reads what it would overwrite, so it adds in its kernel.
            made = producer.with_accumulator(total)
            new = dict(zip(producer.results, made.results, strict=True))
            # Another of its results may be waiting as a part of something else.
            for waiting in self.parts.values():
                waiting[:] = [new[v] if isinstance(v, OpResult) and v in new else v for v in waiting]
            Rewriter.replace_op(producer, made)
            return made.results[made.ACCUMULATED]
        return self.builder.insert(AccumulateOp.build_op(total, part)).y


def _active(block: Block, wrt: set[str]) -> set[SSAValue]:
    """Every value that depends on a weight of `wrt`."""
    active: set[SSAValue] = set()
    for op in block.ops:
        if isinstance(op, WeightOp):
            active.update(op.results if op.symbol_name in wrt else ())
        elif any(operand in active for operand in op.operands):
            active.update(op.results)
    return active


def _flow_back(
    op: Operation, found: Sequence[SSAValue | None], active: set[SSAValue], to: _Cotangents
) -> None:
    """Hand the cotangents of `op`'s results to its operands."""
    if not isinstance(op, Differentiable):
        raise VerifyException(
            f"ck-differentiate: {op.name} has no gradient, and %{op.results[0].name_hint} is between "
            "a trained weight and the loss"
        )
    for operand, part in zip(op.operands, op.vjp(to.builder, *found), strict=True):
        if operand not in active:
            continue
        if part is None:
            raise VerifyException(
                f"ck-differentiate: {op.name} gives no gradient for %{operand.name_hint}, which is trained"
            )
        to.add(operand, part)


def differentiate(function: func.FuncOp, wrt: Sequence[str]) -> None:
    """Append the gradient with respect to the weights `wrt` to `function`, in place."""
    require_values("ck-differentiate", function)
    if GRADIENTS in function.attributes:
        raise VerifyException(f"ck-differentiate: @{function.sym_name.data} has gradients already")
    block = function.body.block
    last = block.last_op
    assert isinstance(last, func.ReturnOp)
    active = _active(block, set(wrt))
    before = list(block.ops)
    forward = [op for op in before if isinstance(op, CkOp)]
    to = _Cotangents(Builder(InsertPoint.before(last)))
    for value in last.operands:
        seed = block.insert_arg(value.type, len(block.args))
        seed.name_hint = f"d_{value.name_hint or 'y'}"
        to.add(value, seed)
    for op in reversed(forward):
        found = [to.of(result) for result in op.results]
        if isinstance(op, WeightOp) or not any(found) or not any(v in active for v in op.operands):
            continue
        _flow_back(op, found, active, to)
    gradients = _gradients(block, wrt, to)
    returned = [*last.operands, *gradients]
    Rewriter.replace_op(last, func.ReturnOp(*returned))
    _erase_unread(block, set(before))
    types = ([arg.type for arg in block.args], [value.type for value in returned])
    function.function_type = FunctionType.from_lists(*types)
    function.attributes.pop(TRAINABLE, None)
    function.attributes[GRADIENTS] = symbol_list(wrt)


def _erase_unread(block: Block, kept: set[Operation]) -> None:
    """Erase the ops of the gradient whose results nothing reads."""
    for op in reversed(list(block.ops)):
        if op not in kept and op.results and not any(result.uses for result in op.results):
            Rewriter.erase_op(op)


def _gradients(block: Block, wrt: Sequence[str], to: _Cotangents) -> list[SSAValue]:
    leaves = {op.symbol_name: op.value for op in block.ops if isinstance(op, WeightOp)}
    gradients: list[SSAValue] = []
    for name in wrt:
        gradient = to.of(leaves[name]) if name in leaves else None
        if gradient is None:
            raise VerifyException(f"ck-differentiate: no result depends on @{name}, which is trained")
        gradients.append(gradient)
    return gradients


@dataclass(frozen=True)
class DifferentiatePass(ModulePass):
    """`ck-differentiate{wrt}`: `wrt` names weights; by default each function's `ck.trainable` does."""

    name = "ck-differentiate"
    TIER: ClassVar[Tier] = BITS
    JUDGE: ClassVar[Judge] = staticmethod(judge_slopes)
    wrt: tuple[str, ...] = ()

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, func.FuncOp) and function.body.blocks:
                wrt = list(self.wrt) or symbols(function, TRAINABLE)
                if wrt:
                    differentiate(function, wrt)
