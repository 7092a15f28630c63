"""`ck.mul`: y = a * b, element by element. a, b [T, D] f32 -> y [T, D] f32."""

from collections.abc import Sequence

from xdsl.builder import Builder
from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure

from ck.ir.op import Array, Differentiable
from ck.ir.ops.elementwise import Elementwise
from ck.ir.rows import RowBuilder, RowValue


@irdl_op_definition
class MulOp(Elementwise, Differentiable):
    name = "ck.mul"
    a = operand_def(TensorType)
    b = operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$a `,` $b attr-dict `:` type($a) `,` type($b) `->` type($y)"

    def reference(self, a: Array, b: Array) -> tuple[Array]:
        return (a * b,)

    def lower_row(self, b: RowBuilder, x: RowValue, y: RowValue) -> tuple[RowValue]:
        return (b.mul(x, y),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        da = b.insert(MulOp.build_op(dy, self.b))
        db = b.insert(MulOp.build_op(dy, self.a))
        return da.y, db.y
