"""`ck.l2_norm`: divide each row by its length.

    r[t]    = 1 / sqrt(sum_d x[t, d]^2 + eps)
    y[t, d] = x[t, d] * r[t]

x [T, D] f32 -> y [T, D] f32. eps is added to the square of the length, about 1e-6: a row of zeros stays one.
Source: Yang et al. 2024, arXiv:2412.06464, section 3.4 (of queries and keys).
"""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.arith import AddfOp, MulfOp
from xdsl.dialects.builtin import FloatAttr, TensorType
from xdsl.dialects.math import RsqrtOp
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, Cost, Differentiable, RowWise, float_value
from ck.ir.rows import RowBuilder, RowValue
from ck.ir.types import shape


@irdl_op_definition
class L2NormOp(CkOp, RowWise, Differentiable):
    name = "ck.l2_norm"
    x = operand_def(TensorType)
    eps = prop_def(FloatAttr)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"

    @staticmethod
    def infer(x: Attribute, *, eps: Attribute) -> tuple[Attribute]:
        if len(shape(x)) != 2:
            raise VerifyException(f"ck.l2_norm: x is [T, D], got {x}")
        return (x,)

    def reference(self, x: Array) -> tuple[Array]:
        return (x * _reciprocal(x, float_value(self.eps)),)

    def lower_row(self, b: RowBuilder, x: RowValue) -> tuple[RowValue]:
        return (b.mul(x, b.splat(_lower_reciprocal(b, x, shape(self.x.type)[1], float_value(self.eps)))),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        return (b.insert(L2NormBwdOp.build_op(self.x, dy, eps=self.eps, hint="d_l2_norm")).dx,)

    def cost(self) -> Cost:
        rows, width = shape(self.x.type)
        return Cost(3 * rows * width, super().cost().n_bytes)


def _reciprocal(x: Array, eps: float) -> Array:
    """r of the formula, [T, 1]."""
    return 1 / np.sqrt((x**2).sum(-1, keepdims=True) + x.dtype.type(eps))


def _lower_reciprocal(b: RowBuilder, x: RowValue, width: int, eps: float) -> SSAValue:
    """r of one row: f32."""
    return b.insert(RsqrtOp(b.insert(AddfOp(b.sum(b.mul(x, x), width), b.scalar(eps)))))


@irdl_op_definition
class L2NormBwdOp(CkOp, RowWise):
    """dx[t, d] = r[t] * (dy[t, d] - x[t, d] * r[t]^2 * sum_e(x[t, e] * dy[t, e]))."""

    name = "ck.l2_norm_bwd"
    x = operand_def(TensorType)
    dy = operand_def(TensorType)
    eps = prop_def(FloatAttr)
    dx = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x `,` $dy attr-dict `:` type($x) `,` type($dy) `->` type($dx)"

    @staticmethod
    def infer(x: Attribute, dy: Attribute, *, eps: Attribute) -> tuple[Attribute]:
        if len(shape(x)) != 2 or dy != x:
            raise VerifyException(f"ck.l2_norm_bwd: x and dy are [T, D] of one type, got {x} and {dy}")
        return (x,)

    def reference(self, x: Array, dy: Array) -> tuple[Array]:
        r = _reciprocal(x, float_value(self.eps))
        return (r * (dy - x * (r * r * (x * dy).sum(-1, keepdims=True))),)

    def lower_row(self, b: RowBuilder, x: RowValue, dy: RowValue) -> tuple[RowValue]:
        width = shape(self.x.type)[1]
        r = _lower_reciprocal(b, x, width, float_value(self.eps))
        pull = b.insert(MulfOp(b.insert(MulfOp(r, r)), b.sum(b.mul(x, dy), width)))
        return (b.mul(b.splat(r), b.sub(dy, b.mul(x, b.splat(pull)))),)

    def cost(self) -> Cost:
        rows, width = shape(self.x.type)
        return Cost(8 * rows * width, super().cost().n_bytes)
