"""`ck.rms_norm`: divide each row by its root mean square, then scale each column by a learned gain.

    r[t]    = 1 / sqrt(mean_d(x[t, d]^2) + eps)
    y[t, d] = x[t, d] * r[t] * w[d]

x [T, D] f32, w [D] f32 -> y [T, D] f32.  eps is dimensionless, about 1e-5.
Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4.
"""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.arith import AddfOp, DivfOp, MulfOp
from xdsl.dialects.builtin import FloatAttr, TensorType
from xdsl.dialects.math import RsqrtOp
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.functions import rows_per_token
from ck.ir.op import Array, CkOp, Cost, Differentiable, RowWise, float_value
from ck.ir.ops.reduce_rows import ReduceRowsOp
from ck.ir.rows import RowBuilder, RowValue
from ck.ir.types import shape


@irdl_op_definition
class RmsNormOp(CkOp, RowWise, Differentiable):
    name = "ck.rms_norm"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    eps = prop_def(FloatAttr)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x `,` $w attr-dict `:` type($x) `,` type($w) `->` type($y)"

    @staticmethod
    def infer(x: Attribute, w: Attribute, *, eps: Attribute) -> tuple[Attribute]:
        if shape(x)[-1:] != shape(w):
            raise VerifyException(f"ck.rms_norm: rows of x {x} have {shape(x)[-1]} columns, w is {w}")
        return (x,)

    def reference(self, x: Array, w: Array) -> tuple[Array]:
        r = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + x.dtype.type(float_value(self.eps)))
        return (x * r * w,)

    def lower_row(self, b: RowBuilder, x: RowValue, w: RowValue) -> tuple[RowValue]:
        r = b.splat(_inverse_root(b, x, shape(self.x.type)[1], float_value(self.eps)))
        return (b.mul(b.mul(x, r), w),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        bwd = b.insert(RmsNormBwdOp.build_op(self.x, self.w, dy, eps=self.eps, hint="d_norm"))
        bwd.dw.name_hint = "dw_rows"
        dw = b.insert(ReduceRowsOp.build_op(bwd.dw, rows_per_token=rows_per_token(self, self.x)))
        dw.y.name_hint = f"d_{self.w.name_hint or 'w'}"
        return bwd.dx, dw.y

    def cost(self) -> Cost:
        rows, width = shape(self.x.type)
        return Cost(4 * rows * width, super().cost().n_bytes)


def _inverse_root(b: RowBuilder, x: RowValue, width: int, eps: float) -> SSAValue:
    """r of the formula: f32."""
    mean = b.insert(DivfOp(b.sum(b.mul(x, x), width), b.scalar(float(width))))
    return b.insert(RsqrtOp(b.insert(AddfOp(mean, b.scalar(eps)))))


@irdl_op_definition
class RmsNormBwdOp(CkOp, RowWise):
    """The gradient of `ck.rms_norm`; dw is each row's own part, which `ck.reduce_rows` adds up.

    dx[t, d] = r[t] * (dy[t, d] * w[d] - x[t, d] * r[t]^2 * mean_e(x[t, e] * dy[t, e] * w[e]))
    dw[t, d] = dy[t, d] * x[t, d] * r[t]

    x, dy [T, D] f32, w [D] f32 -> dx, dw [T, D] f32.
    """

    name = "ck.rms_norm_bwd"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    dy = operand_def(TensorType)
    eps = prop_def(FloatAttr)
    dx = result_def(TensorType)
    dw = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$x `,` $w `,` $dy attr-dict `:` type($x) `,` type($w) `,` type($dy) `->` type($dx) `,` type($dw)"
    )

    @staticmethod
    def infer(x: Attribute, w: Attribute, dy: Attribute, *, eps: Attribute) -> tuple[Attribute, Attribute]:
        if shape(x)[-1:] != shape(w) or dy != x:
            raise VerifyException(f"ck.rms_norm_bwd: x {x}, w {w} and dy {dy} do not fit")
        return (x, x)

    def reference(self, x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
        r = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + x.dtype.type(float_value(self.eps)))
        scaled = dy * w
        dx = r * (scaled - x * (r * r * (x * scaled).mean(-1, keepdims=True)))
        return dx, dy * (x * r)

    def lower_row(self, b: RowBuilder, x: RowValue, w: RowValue, dy: RowValue) -> tuple[RowValue, RowValue]:
        width = shape(self.x.type)[1]
        r = _inverse_root(b, x, width, float_value(self.eps))
        scaled = b.mul(dy, w)
        mean = b.insert(DivfOp(b.sum(b.mul(x, scaled), width), b.scalar(float(width))))
        pull = b.insert(MulfOp(b.insert(MulfOp(r, r)), mean))
        dx = b.mul(b.splat(r), b.sub(scaled, b.mul(x, b.splat(pull))))
        return dx, b.mul(dy, b.mul(x, b.splat(r)))

    def cost(self) -> Cost:
        rows, width = shape(self.x.type)
        return Cost(12 * rows * width, super().cost().n_bytes)
