"""`ck.rms_norm`: divide each row by its root mean square, then scale each column by a learned gain.

    r[t]    = 1 / sqrt(mean_d(x[t, d]^2) + eps)
    y[t, d] = x[t, d] * r[t] * w[d]

x [T, D] f32, w [D] f32 -> y [T, D] f32.  eps is dimensionless, about 1e-5.
Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4.
"""

import numpy as np
from xdsl.dialects.arith import AddfOp, DivfOp
from xdsl.dialects.builtin import FloatAttr, TensorType
from xdsl.dialects.math import RsqrtOp
from xdsl.ir import Attribute
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, Cost, RowWise, float_value
from ck.ir.rows import RowBuilder, RowValue
from ck.ir.types import shape


@irdl_op_definition
class RmsNormOp(CkOp, RowWise):
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
        width = shape(self.x.type)[1]
        total = b.sum(b.mul(x, x), width)
        mean = b.insert(DivfOp(total, b.scalar(float(width))))
        r = b.insert(RsqrtOp(b.insert(AddfOp(mean, b.scalar(float_value(self.eps))))))
        return (b.mul(b.mul(x, b.splat(r)), w),)

    def cost(self) -> Cost:
        rows, width = shape(self.x.type)
        return Cost(4 * rows * width, super().cost().n_bytes)
