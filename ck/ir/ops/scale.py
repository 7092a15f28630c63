"""`ck.scale`: y = factor * x with a constant factor. x [T, D] f32 -> y [T, D] f32."""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import FloatAttr, TensorType
from xdsl.ir import SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure

from ck.ir.op import Array, Differentiable, float_value
from ck.ir.ops.elementwise import Elementwise
from ck.ir.rows import RowBuilder, RowValue


@irdl_op_definition
class ScaleOp(Elementwise, Differentiable):
    name = "ck.scale"
    x = operand_def(TensorType)
    factor = prop_def(FloatAttr)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"

    def reference(self, x: Array) -> tuple[Array]:
        return (x * np.float32(float_value(self.factor)),)

    def lower_row(self, b: RowBuilder, x: RowValue) -> tuple[RowValue]:
        return (b.mul(x, b.constant(float_value(self.factor))),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        return (b.insert(ScaleOp.build_op(dy, factor=self.factor)).y,)
