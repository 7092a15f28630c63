"""`ck.exp`: y = e^x. x [T, D] f32 -> y [T, D] f32; infinity above 88.72."""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure

from ck.ir.op import Array, Differentiable
from ck.ir.ops.elementwise import Elementwise
from ck.ir.ops.mul import MulOp
from ck.ir.rows import RowBuilder, RowValue


@irdl_op_definition
class ExpOp(Elementwise, Differentiable):
    name = "ck.exp"
    x = operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"

    def reference(self, x: Array) -> tuple[Array]:
        with np.errstate(over="ignore"):
            return (np.exp(x),)

    def lower_row(self, b: RowBuilder, x: RowValue) -> tuple[RowValue]:
        return (b.exp(x),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        return (b.insert(MulOp.build_op(dy, self.y)).y,)
