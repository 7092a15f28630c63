"""Ways that take ops out: what they gave is replaced by what is there anyway, or by something made up."""

from collections.abc import Callable, Sequence

from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter

from ck.ir.op import CkOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.ops.weight import WeightOp
from ck.ir.reduce.way import Target, Way, called, is_end, symbols
from ck.ir.types import WeightType, is_tensor


def operand(op: Operation, result: SSAValue) -> SSAValue | None:
    """What `op` read of that type."""
    return next((value for value in op.operands if value.type == result.type), None)


def earlier(op: Operation, result: SSAValue) -> SSAValue | None:
    """The first value of the block of that type."""
    block = op.parent
    assert block is not None
    for arg in block.args:
        if arg.type == result.type:
            return arg
    for before in block.ops:
        if before is op:
            return None
        for value in before.results:
            if value.type == result.type:
                return value
    return None


def argument(op: Operation, result: SSAValue) -> SSAValue | None:
    """A fresh argument of the function, for tensors."""
    return _fresh_argument(op.parent, result)


def _fresh_argument(block: Block | None, result: SSAValue) -> SSAValue | None:
    frame = block.parent_op() if block else None
    if block is None or not is_tensor(result.type):
        return None
    if isinstance(frame, FusedOp):
        outer = _fresh_argument(frame.parent, result)
        if outer is None:
            return None
        frame.operands = [*frame.operands, outer]
    elif not isinstance(frame, func.FuncOp) or _is_called(frame):
        return None
    made = block.insert_arg(result.type, len(block.args))
    made.name_hint = result.name_hint
    if isinstance(frame, func.FuncOp):
        frame.update_function_type()
    return made


def _is_called(function: func.FuncOp) -> bool:
    module = function.parent_op()
    return isinstance(module, ModuleOp) and function.sym_name.data in called(module)


def weight(op: Operation, result: SSAValue) -> SSAValue | None:
    """A fresh weight, for what a `ck` op gave."""
    block = op.parent
    if block is None or not isinstance(op, CkOp) or not isinstance(block.parent_op(), func.FuncOp):
        return None
    if not (is_tensor(result.type) or isinstance(result.type, WeightType)):
        return None
    made = WeightOp.of(_fresh_name(block), result.type)
    block.insert_op_before(made, op)
    return made.value


def _fresh_name(block: Block) -> str:
    module = block.parent_op()
    while module is not None and not isinstance(module, ModuleOp):
        module = module.parent_op()
    used = symbols(module) if module else set[str]()
    return next(name for name in (f"made.{n}" for n in range(len(used) + 1)) if name not in used)


Replacement = Callable[[Operation, SSAValue], SSAValue | None]

# The first choice of each way; where it has nothing to offer, the others follow in this order.
REPLACEMENTS: tuple[Replacement, ...] = (operand, earlier, argument, weight)


class DropOps(Way):
    """Ops, last ones first: every result gives way to what `first` finds, else to what the others do."""

    def __init__(self, first: Replacement) -> None:
        self.name = f"ops by {first.__name__}"
        self._order = (first, *(other for other in REPLACEMENTS if other is not first))

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        return [
            (n,)
            for n, op in reversed(list(enumerate(module.walk())))
            if not isinstance(op, ModuleOp | func.FuncOp) and not is_end(op)
        ]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        ops = list(module.walk())
        for (n,) in chosen:
            # An op before it may have held it, and gone.
            if ops[n].parent is not None:
                self._drop(ops[n])

    def _drop(self, op: Operation) -> None:
        for result in op.results:
            if result.uses:
                found = (find(op, result) for find in self._order)
                value = next((value for value in found if value is not None), None)
                if value is None:
                    return
                result.replace_all_uses_with(value)
        op.detach()
        op.erase()


class InlineFused(Way):
    """Regions of `ck.fused`: their ops stand outside again."""

    name = "fused"

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        return [(n,) for n, op in enumerate(module.walk()) if isinstance(op, FusedOp)]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        ops = list(module.walk())
        for fused in [ops[n] for (n,) in chosen]:
            assert isinstance(fused, FusedOp)
            end = fused.block.last_op
            assert isinstance(end, YieldOp)
            for result, value in zip(fused.outputs, end.values, strict=True):
                result.replace_all_uses_with(value)
            end.detach()
            end.erase()
            Rewriter.inline_block(fused.block, InsertPoint.before(fused), fused.inputs)
            fused.detach()
            fused.erase()


class TrimFused(Way):
    """Results of a `ck.fused` that nobody reads, and inputs that its region does not."""

    name = "fused values"

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        return [(n,) for n, op in enumerate(module.walk()) if isinstance(op, FusedOp)]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        ops = list(module.walk())
        for fused in [ops[n] for (n,) in chosen]:
            assert isinstance(fused, FusedOp)
            _trim(fused)


def _trim(fused: FusedOp) -> None:
    """Drop results that nobody reads, but for one, and inputs that the region does not."""
    kept = [n for n, result in enumerate(fused.outputs) if result.uses] or [0]
    read = [n for n, arg in enumerate(fused.block.args) if arg.uses]
    if (len(kept), len(read)) == (len(fused.outputs), len(fused.inputs)):
        return
    end = fused.block.last_op
    assert isinstance(end, YieldOp)
    end.operands = [end.values[n] for n in kept]
    for arg in [arg for arg in fused.block.args if not arg.uses]:
        fused.block.erase_arg(arg)
    made = FusedOp.create(
        operands=[fused.inputs[n] for n in read],
        result_types=[fused.outputs[n].type for n in kept],
        attributes=fused.attributes,
        regions=[fused.detach_region(fused.body)],
    )
    _replace_op(fused, made, kept)


def _replace_op(old: Operation, new: Operation, kept: Sequence[int]) -> None:
    """Put `new` where `old` stands: its results are those of `old` at `kept`."""
    block = old.parent
    assert isinstance(block, Block)
    block.insert_op_before(new, old)
    for index, result in zip(kept, new.results, strict=True):
        result.name_hint = old.results[index].name_hint
        old.results[index].replace_all_uses_with(result)
    old.detach()
    old.erase()


class DropOperands(Way):
    """Last operands that an op can do without: a residual, an accumulator."""

    name = "operands"

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        return [
            (n,)
            for n, op in enumerate(module.walk())
            if isinstance(op, CkOp) and not isinstance(op, FusedOp) and not is_end(op) and op.operands
        ]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        ops = list(module.walk())
        for op in [ops[n] for (n,) in chosen]:
            made = op.create(
                operands=op.operands[:-1],
                result_types=op.result_types,
                properties=op.properties,
                attributes=op.attributes,
            )
            _replace_op(op, made, range(len(op.results)))
