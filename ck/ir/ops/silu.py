"""`ck.silu`: y = x * sigmoid(x) = x / (1 + exp(-x)). x [T, D] f32 -> y [T, D] f32.

Source: Elfwing, Uchibe and Doya 2017, arXiv:1702.03118 (there SiL).
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure

from ck.ir.op import Array, Differentiable
from ck.ir.ops.elementwise import Elementwise
from ck.ir.rows import RowBuilder, RowValue


@irdl_op_definition
class SiluOp(Elementwise, Differentiable):
    name = "ck.silu"
    x = operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"
    FLOPS_PER_ELEMENT: ClassVar[int] = 4

    def reference(self, x: Array) -> tuple[Array]:
        with np.errstate(over="ignore"):
            return (x / (1 + np.exp(-x)),)

    def lower_row(self, b: RowBuilder, x: RowValue) -> tuple[RowValue]:
        return (b.div(x, b.add(b.constant(1.0), b.exp(b.neg(x)))),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        return (b.insert(SiluBwdOp.build_op(self.x, dy)).dx,)


@irdl_op_definition
class SiluBwdOp(Elementwise):
    """dx = dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""

    name = "ck.silu_bwd"
    x = operand_def(TensorType)
    dy = operand_def(TensorType)
    dx = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $dy attr-dict `:` type($x) `,` type($dy) `->` type($dx)"
    FLOPS_PER_ELEMENT: ClassVar[int] = 8

    def reference(self, x: Array, dy: Array) -> tuple[Array]:
        with np.errstate(over="ignore"):
            s = 1 / (1 + np.exp(-x))
        return (dy * s * (1 + x * (1 - s)),)

    def lower_row(self, b: RowBuilder, x: RowValue, dy: RowValue) -> tuple[RowValue]:
        one = b.constant(1.0)
        s = b.div(one, b.add(one, b.exp(b.neg(x))))
        return (b.mul(b.mul(dy, s), b.add(one, b.mul(x, b.sub(one, s)))),)
