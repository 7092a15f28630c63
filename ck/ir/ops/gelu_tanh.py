"""`ck.gelu_tanh`: the tanh form of GELU. x [T, D] f32 -> y [T, D] f32.

    u = sqrt(2 / pi) * (x + 0.044715 * x^3)
    y = 0.5 * x * (1 + tanh(u)) = x / (1 + exp(-2 u))

Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2. The second form is the one computed: it
needs one exp, and nothing cancels where x is negative.
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

SQRT_2_OVER_PI = 0.7978845608028654


@irdl_op_definition
class GeluTanhOp(Elementwise, Differentiable):
    name = "ck.gelu_tanh"
    x = operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"
    FLOPS_PER_ELEMENT: ClassVar[int] = 10

    def reference(self, x: Array) -> tuple[Array]:
        u = SQRT_2_OVER_PI * (x + 0.044715 * x**3)
        with np.errstate(over="ignore"):
            return ((x / (1 + np.exp(-2 * u))).astype(x.dtype),)

    def lower_row(self, b: RowBuilder, x: RowValue) -> tuple[RowValue]:
        return (b.mul(x, _gate(b, x)),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        return (b.insert(GeluTanhBwdOp.build_op(self.x, dy, hint="d_gelu")).dx,)


def _gate(b: RowBuilder, x: RowValue) -> RowValue:
    """1 / (1 + exp(-2 u))."""
    cube = b.mul(b.mul(x, x), x)
    inner = b.add(x, b.mul(b.constant(0.044715), cube))
    u = b.mul(b.constant(SQRT_2_OVER_PI), inner)
    return b.div(b.constant(1.0), b.add(b.constant(1.0), b.exp(b.mul(b.constant(-2.0), u))))


@irdl_op_definition
class GeluTanhBwdOp(Elementwise):
    """dx = dy * s * (1 + 2 x (1 - s) u').

    s = 1 / (1 + exp(-2 u)), u' = sqrt(2 / pi) * (1 + 3 * 0.044715 x^2)
    """

    name = "ck.gelu_tanh_bwd"
    x = operand_def(TensorType)
    dy = operand_def(TensorType)
    dx = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $dy attr-dict `:` type($x) `,` type($dy) `->` type($dx)"
    FLOPS_PER_ELEMENT: ClassVar[int] = 20

    def reference(self, x: Array, dy: Array) -> tuple[Array]:
        u = SQRT_2_OVER_PI * (x + 0.044715 * x**3)
        slope = SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x**2)
        with np.errstate(over="ignore"):
            s = 1 / (1 + np.exp(-2 * u))
        return ((dy * (s * (1 + 2 * x * (1 - s) * slope))).astype(x.dtype),)

    def lower_row(self, b: RowBuilder, x: RowValue, dy: RowValue) -> tuple[RowValue]:
        one = b.constant(1.0)
        s = _gate(b, x)
        square = b.mul(b.constant(6 * SQRT_2_OVER_PI * 0.044715), b.mul(x, x))
        slope = b.add(b.constant(2 * SQRT_2_OVER_PI), square)
        inner = b.add(one, b.mul(b.mul(x, slope), b.sub(one, s)))
        return (b.mul(dy, b.mul(s, inner)),)
