"""`ck.softcap`: bound logits smoothly. x [T, D] f32 -> y [T, D] f32.

    y = cap * tanh(x / cap)

Source: Gemma 2, arXiv:2408.00118, section 2.3 (there 50 for attention, 30 for the head).
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import FloatAttr, TensorType
from xdsl.dialects.math import TanhOp
from xdsl.ir import SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure

from ck.ir.op import Array, Differentiable, float_value
from ck.ir.ops.elementwise import Elementwise
from ck.ir.rows import RowBuilder, RowValue


@irdl_op_definition
class SoftcapOp(Elementwise, Differentiable):
    name = "ck.softcap"
    x = operand_def(TensorType)
    cap = prop_def(FloatAttr)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"
    FLOPS_PER_ELEMENT: ClassVar[int] = 3

    def reference(self, x: Array) -> tuple[Array]:
        cap = x.dtype.type(float_value(self.cap))
        return (cap * np.tanh(x / cap),)

    def lower_row(self, b: RowBuilder, x: RowValue) -> tuple[RowValue]:
        cap = b.constant(float_value(self.cap))
        return (b.mul(cap, b.map(TanhOp, b.div(x, cap))),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        return (b.insert(SoftcapBwdOp.build_op(self.x, dy, cap=self.cap)).dx,)


@irdl_op_definition
class SoftcapBwdOp(Elementwise):
    """dx = dy * (1 - tanh(x / cap)^2)."""

    name = "ck.softcap_bwd"
    x = operand_def(TensorType)
    dy = operand_def(TensorType)
    cap = prop_def(FloatAttr)
    dx = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x `,` $dy attr-dict `:` type($x) `,` type($dy) `->` type($dx)"
    FLOPS_PER_ELEMENT: ClassVar[int] = 5

    def reference(self, x: Array, dy: Array) -> tuple[Array]:
        t = np.tanh(x / x.dtype.type(float_value(self.cap)))
        return (dy * (1 - t * t),)

    def lower_row(self, b: RowBuilder, x: RowValue, dy: RowValue) -> tuple[RowValue]:
        t = b.map(TanhOp, b.div(x, b.constant(float_value(self.cap))))
        return (b.mul(dy, b.sub(b.constant(1.0), b.mul(t, t))),)
