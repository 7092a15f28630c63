"""One `ck.fused` group as a function of loops: its ops' own `lower_row`, strung together by a RowBuilder.

    func.func @silu_mul(%g: memref<?x1536xf32>, %u: memref<?x1536xf32>, %y: memref<?x1536xf32>,
                        %begin: index, %end: index)

Inputs, then outputs, then the first row and the one after the last. The number of rows is not part of the
code, so prefill and decode share it.
"""

from xdsl.builder import Builder
from xdsl.dialects import func, scf
from xdsl.dialects.builtin import DYNAMIC_INDEX, FunctionType, IndexType, MemRefType
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.rewriter import InsertPoint

from ck.ir.op import RowWise
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.rows import RowBuilder, RowValue
from ck.ir.types import is_tensor


def row_buffer(of: Attribute) -> Attribute:
    """The parameter type for a value of type `of`: any number of rows of a [T, D], all of a [D]."""
    if not is_tensor(of):
        return of
    sizes = of.get_shape()
    return MemRefType(of.element_type, [DYNAMIC_INDEX, *sizes[1:]] if len(sizes) == 2 else sizes)


def name_of(fused: FusedOp) -> str:
    """What a group does, in one identifier."""
    return "_".join(op.name.removeprefix("ck.") for op in fused.block.ops if not isinstance(op, YieldOp))


def meaning_of(fused: FusedOp) -> object:
    """Equal for two groups exactly when one function serves both: same ops, properties, wiring, columns."""
    place: dict[SSAValue, int] = {arg: i for i, arg in enumerate(fused.block.args)}
    steps: list[object] = [tuple(row_buffer(arg.type) for arg in fused.block.args)]
    for op in fused.block.ops:
        for result in op.results:
            place[result] = len(place)
        wiring = tuple(place[operand] for operand in op.operands)
        # The row count is not part of the code, though `rope_table` carries it as a property.
        properties = tuple((name, value) for name, value in sorted(op.properties.items()) if name != "rows")
        steps.append((op.name, wiring, properties, tuple(row_buffer(result.type) for result in op.results)))
    return tuple(steps)


def lower_fused(fused: FusedOp, name: str) -> func.FuncOp:
    """The function `name` that computes rows of `fused`."""
    values = [*fused.block.args, *_yielded(fused)]
    types = [*(row_buffer(value.type) for value in values), IndexType(), IndexType()]
    entry = Block(arg_types=types)
    for arg, hint in zip(entry.args, _hints(fused), strict=True):
        arg.name_hint = hint
    body = Block(arg_types=[IndexType()])
    body.args[0].name_hint = "t"
    constants, inside = Builder(InsertPoint.at_end(entry)), Builder(InsertPoint.at_end(body))
    rows = RowBuilder(constants, inside, body.args[0])
    _lower_ops(fused, rows, list(entry.args))
    rows.finish()
    inside.insert(scf.YieldOp())
    constants.insert(scf.ForOp(entry.args[-2], entry.args[-1], rows.index(1), [], Region(body)))
    constants.insert(func.ReturnOp())
    return func.FuncOp(name, FunctionType.from_lists(types, []), Region(entry), visibility="private")


def _yielded(fused: FusedOp) -> list[SSAValue]:
    terminator = fused.block.last_op
    assert isinstance(terminator, YieldOp)
    return list(terminator.values)


def _hints(fused: FusedOp) -> list[str]:
    """Parameter names that say what a buffer is; the same for groups that do the same."""
    inputs = [_hint(value, f"x{place}") for place, value in enumerate(fused.block.args)]
    outputs = [f"y{place}" for place in range(len(fused.outputs))] if len(fused.outputs) > 1 else ["y"]
    return [*inputs, *outputs, "begin", "end"]


def _hint(value: SSAValue, fallback: str) -> str:
    if isinstance(value.type, IndexType):
        return "pos"
    return "w" if is_tensor(value.type) and len(value.type.get_shape()) == 1 else fallback


def _lower_ops(fused: FusedOp, rows: RowBuilder, parameters: list[SSAValue]) -> None:
    known: dict[SSAValue, RowValue | SSAValue] = {}
    n_inputs = len(fused.inputs)
    for arg, parameter in zip(fused.block.args, parameters, strict=False):
        known[arg] = rows.row_of(parameter) if is_tensor(arg.type) else parameter
    yielded = _yielded(fused)
    rows.buffers = dict(zip(yielded, parameters[n_inputs:], strict=False))
    for op in fused.block.ops:
        if not isinstance(op, RowWise):
            continue
        values = op.lower_row(rows, *(known[operand] for operand in op.operands))
        for result, value in zip(op.results, values, strict=True):
            stored = result in rows.buffers and not rows.is_loaded(value)
            known[result] = rows.output(value, rows.buffers[result]) if stored else value
