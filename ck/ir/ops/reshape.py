"""`ck.reshape`: the same elements in row-major order under other sizes; a view, never a copy.

%y = ck.reshape %x : tensor<512x1024xf32> -> tensor<2048x256xf32>
"""

from collections.abc import Sequence
from typing import Any

from xdsl.builder import Builder
from xdsl.dialects.builtin import ArrayAttr, IntAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, Cost, Differentiable
from ck.ir.types import shape, tensor


@irdl_op_definition
class ReshapeOp(CkOp, Differentiable):
    name = "ck.reshape"
    x = operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"

    @staticmethod
    def infer(x: Attribute, *, sizes: ArrayAttr[IntAttr]) -> tuple[Attribute]:
        rows, columns = (size.data for size in sizes)
        if shape(x)[0] * shape(x)[1] != rows * columns:
            raise VerifyException(f"ck.reshape: {x} has not the elements of {tensor(rows, columns)}")
        return (tensor(rows, columns),)

    @staticmethod
    def to(x: SSAValue, rows: int, columns: int) -> "ReshapeOp":
        """`x` as [rows, columns]."""
        (of,) = ReshapeOp.infer(x.type, sizes=ArrayAttr([IntAttr(rows), IntAttr(columns)]))
        return ReshapeOp.create(operands=[x], result_types=[of])

    def verify_(self) -> None:
        sizes: Any = ArrayAttr([IntAttr(n) for n in shape(self.y.type)])
        self.infer(self.x.type, sizes=sizes)

    def reference(self, x: Array) -> tuple[Array]:
        return (x.reshape(shape(self.y.type)),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        return (b.insert(ReshapeOp.to(dy, *shape(self.x.type))).y,)

    def cost(self) -> Cost:
        return Cost(0, 0)
