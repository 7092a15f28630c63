"""`ck.sigmoid`: y = 1 / (1 + exp(-x)), between 0 and 1. x [T, D] f32 -> y [T, D] f32."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import TensorType
from xdsl.dialects.math import AbsFOp
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure

from ck.ir.op import Array, Differentiable
from ck.ir.ops.elementwise import Elementwise
from ck.ir.rows import RowBuilder, RowValue


@irdl_op_definition
class SigmoidOp(Elementwise, Differentiable):
    name = "ck.sigmoid"
    x = operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"
    FLOPS_PER_ELEMENT: ClassVar[int] = 4

    def reference(self, x: Array) -> tuple[Array]:
        with np.errstate(over="ignore"):
            return (1 / (1 + np.exp(-x)),)

    def lower_row(self, b: RowBuilder, x: RowValue) -> tuple[RowValue]:
        one = b.constant(1.0)
        return (b.div(one, b.add(one, b.exp(b.neg(x)))),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        return (b.insert(SigmoidBwdOp.build_op(self.x, dy)).dx,)


@irdl_op_definition
class SigmoidBwdOp(Elementwise):
    """dx = dy * e / (1 + e)^2, e = exp(-|x|): the slope is even, and nothing cancels where y is near 1."""

    name = "ck.sigmoid_bwd"
    x = operand_def(TensorType)
    dy = operand_def(TensorType)
    dx = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $dy attr-dict `:` type($x) `,` type($dy) `->` type($dx)"
    FLOPS_PER_ELEMENT: ClassVar[int] = 8

    def reference(self, x: Array, dy: Array) -> tuple[Array]:
        e = np.exp(-np.abs(x))
        return (dy * (e / ((1 + e) * (1 + e))),)

    def lower_row(self, b: RowBuilder, x: RowValue, dy: RowValue) -> tuple[RowValue]:
        e = b.exp(b.neg(b.map(AbsFOp, x)))
        base = b.add(b.constant(1.0), e)
        return (b.mul(dy, b.div(e, b.mul(base, base))),)
