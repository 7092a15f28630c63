"""`ck.bias_add`: add a learned number to each column of every row.

    y[t, d] = x[t, d] + b[d]

x [T, D] f32, b [D] f32 -> y [T, D] f32.
"""

from collections.abc import Sequence

from xdsl.builder import Builder
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.functions import rows_per_token
from ck.ir.op import Array, CkOp, Cost, Differentiable, RowWise
from ck.ir.ops.reduce_rows import ReduceRowsOp
from ck.ir.rows import RowBuilder, RowValue
from ck.ir.types import shape


@irdl_op_definition
class BiasAddOp(CkOp, RowWise, Differentiable):
    name = "ck.bias_add"
    x = operand_def(TensorType)
    b = operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $b attr-dict `:` type($x) `,` type($b) `->` type($y)"

    @staticmethod
    def infer(x: Attribute, b: Attribute) -> tuple[Attribute]:
        if len(shape(x)) != 2 or shape(x)[1:] != shape(b):
            raise VerifyException(f"ck.bias_add: x is [T, D] and b is [D], got {x} and {b}")
        return (x,)

    def reference(self, x: Array, b: Array) -> tuple[Array]:
        return (x + b,)

    def lower_row(self, b: RowBuilder, x: RowValue, bias: RowValue) -> tuple[RowValue]:
        return (b.add(x, bias),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        db = b.insert(ReduceRowsOp.build_op(dy, rows_per_token=rows_per_token(self, self.x)))
        db.y.name_hint = f"d_{self.b.name_hint or 'b'}"
        return dy, db.y

    def cost(self) -> Cost:
        rows, width = shape(self.x.type)
        return Cost(rows * width, super().cost().n_bytes)
