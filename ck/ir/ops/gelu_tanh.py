"""`ck.gelu_tanh`: the tanh form of GELU. x [T, D] f32 -> y [T, D] f32.

    u = sqrt(2 / pi) * (x + 0.044715 * x^3)
    y = 0.5 * x * (1 + tanh(u)) = x / (1 + exp(-2 u))

Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2. The second form is the one computed: it
needs one exp, and nothing cancels where x is negative.
"""

from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import TensorType
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure

from ck.ir.op import Array
from ck.ir.ops.elementwise import Elementwise
from ck.ir.rows import RowBuilder, RowValue

SQRT_2_OVER_PI = 0.7978845608028654


@irdl_op_definition
class GeluTanhOp(Elementwise):
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
        cube = b.mul(b.mul(x, x), x)
        inner = b.add(x, b.mul(b.constant(0.044715), cube))
        u = b.mul(b.constant(SQRT_2_OVER_PI), inner)
        s = b.div(b.constant(1.0), b.add(b.constant(1.0), b.exp(b.mul(b.constant(-2.0), u))))
        return (b.mul(x, s),)
