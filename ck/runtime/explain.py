"""What the compiler did, for people: generated groups and kernel calls, and why groups end where they do.

    @decode
      generated rms_norm  x 60
        members    rms_norm
        buffers    x arena[0..2304)
        moves      6,912 bytes
        apart from ck.linear_multi: ck.linear_multi is not row-wise

Steps that are alike but for the weights they use are counted, not repeated.
"""

from collections.abc import Iterator

from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, SymbolRefAttr
from xdsl.ir import Operation, SSAValue
from xdsl.parser import Parser

from ck.ir.dialects import context
from ck.ir.op import CkOp, KernelOp, type_bytes
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.rt.ops import ViewOp, Work
from ck.passes.fuse_rows import why_apart
from ck.passes.plan_memory import PlanMemoryPass


def explain(kernels: str, buffers: str) -> str:
    """The explanation, from the IR's text at stages `kernels` and `buffers`."""
    before = Parser(context(), kernels).parse_module()
    after = Parser(context(), buffers).parse_module()
    PlanMemoryPass().apply(context(), after)
    lines: list[str] = []
    planned = {f.sym_name.data: f for f in _entries(after)}
    for function in _entries(before):
        lines.append(f"@{function.sym_name.data}")
        counted: dict[str, int] = {}
        for step in _steps(function, planned[function.sym_name.data]):
            counted[step] = counted.get(step, 0) + 1
        for step, count in counted.items():
            head, _, rest = step.partition("\n")
            lines.append(f"  {head}  x {count}" + (f"\n{rest}" if rest else ""))
    return "\n".join(lines) + "\n"


def _entries(module: ModuleOp) -> Iterator[func.FuncOp]:
    for op in module.ops:
        if isinstance(op, func.FuncOp) and "ck.entry" in op.attributes:
            yield op


def _steps(function: func.FuncOp, planned: func.FuncOp) -> Iterator[str]:
    """One text for each op that computes; the calls of `planned` come in the same order."""
    works = (op for op in planned.body.block.ops if isinstance(op, Work))
    for op in function.body.block.ops:
        if isinstance(op, FusedOp):
            yield _generated(op, next(works))
        elif isinstance(op, KernelOp):
            assert isinstance(op, CkOp)
            for _ in op.kernels():
                yield _call(op, next(works))


def _generated(op: FusedOp, work: Work) -> str:
    members = [inner.name.removeprefix("ck.") for inner in op.block.ops if not isinstance(inner, YieldOp)]
    reasons = dict.fromkeys(_reasons(op))
    lines = [
        f"generated {work.symbol_name}",
        f"    members    {', '.join(members)}",
        f"    buffers    {_buffers(work)}",
        f"    moves      {op.cost().n_bytes:,} bytes, {op.cost().flops:,} flops",
        *(f"    apart from {reason}" for reason in reasons),
    ]
    return "\n".join(lines)


def _call(op: CkOp, work: Work) -> str:
    lines = [
        f"kernel {work.symbol_name}",
        f"    op         {op.name}: hand-written, runtime_c/kernels",
        f"    buffers    {_buffers(work)}",
        f"    moves      {op.cost().n_bytes:,} bytes, {op.cost().flops:,} flops",
    ]
    return "\n".join(lines)


def _reasons(op: FusedOp) -> Iterator[str]:
    """Each neighbour outside the group, and why it is outside."""
    for operand in op.inputs:
        if isinstance(operand.owner, CkOp) and operand.owner.operands:
            yield f"{operand.owner.name}: {why_apart(operand.owner, op)}"
    for result in op.outputs:
        for use in result.uses:
            if isinstance(use.operation, CkOp):
                yield f"{use.operation.name}: {why_apart(op, use.operation)}"


def _buffers(work: Work) -> str:
    return ", ".join(_place(value) for value in work.writes)


def _place(value: SSAValue) -> str:
    name = value.name_hint or "b"
    owner = value.owner
    if isinstance(owner, ViewOp):
        return f"{name} arena[{owner.offset_bytes}..{owner.offset_bytes + type_bytes(value.type)})"
    if isinstance(owner, Operation):
        symbol = owner.properties.get("symbol")
        return (
            f"cache {symbol.root_reference.data.rpartition('.')[2]}"
            if isinstance(symbol, SymbolRefAttr)
            else name
        )
    return f"{name} (the caller's)"
