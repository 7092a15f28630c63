"""`ck.softplus`: y = log(1 + exp(x)), a smooth max(x, 0). x [T, D] f32 -> y [T, D] f32.

    e = exp(-|x|), u = 1 + e
    y = max(x, 0) + log(u) + (e - (u - 1)) / u

The last term is what rounding took from u: without it small e would be lost, and y would be 0 from -17 on.
Source of the term: Kahan's log1p, as in Goldberg 1991, doi:10.1145/103162.103163, theorem 4.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.arith import MaximumfOp
from xdsl.dialects.builtin import TensorType
from xdsl.dialects.math import AbsFOp, LogOp
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure

from ck.ir.op import Array, Differentiable
from ck.ir.ops.elementwise import Elementwise
from ck.ir.ops.mul import MulOp
from ck.ir.ops.sigmoid import SigmoidOp
from ck.ir.rows import RowBuilder, RowValue


@irdl_op_definition
class SoftplusOp(Elementwise, Differentiable):
    name = "ck.softplus"
    x = operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"
    FLOPS_PER_ELEMENT: ClassVar[int] = 11

    def reference(self, x: Array) -> tuple[Array]:
        return (np.logaddexp(x.dtype.type(0), x),)

    def lower_row(self, b: RowBuilder, x: RowValue) -> tuple[RowValue]:
        one, size = b.constant(1.0), b.map(AbsFOp, x)
        e = b.exp(b.neg(size))
        u = b.add(one, e)
        lost = b.div(b.sub(e, b.sub(u, one)), u)
        positive = b.map(MaximumfOp, x, b.constant(0.0))
        return (b.add(positive, b.add(b.map(LogOp, u), lost)),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        slope = b.insert(SigmoidOp.build_op(self.x, hint="slope")).y
        return (b.insert(MulOp.build_op(dy, slope)).y,)
