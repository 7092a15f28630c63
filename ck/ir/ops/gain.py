"""`ck.gain`: multiply each column of every row by a learned factor.

    form "w":       y[t, d] = x[t, d] * w[d]
    form "neg_exp": y[t, d] = x[t, d] * -exp(w[d])      a factor below zero, learned as its logarithm

x [T, D] f32, w [D] f32 -> y [T, D] f32. The second form is a decay's: Gu and Dao 2023, arXiv:2312.00752,
section 3.6 (A = -exp(A_log)).
"""

from collections.abc import Sequence

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import StringAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.functions import rows_per_token
from ck.ir.op import Array, CkOp, Cost, Differentiable, RowWise, str_value
from ck.ir.ops.mul import MulOp
from ck.ir.ops.reduce_rows import ReduceRowsOp
from ck.ir.rows import RowBuilder, RowValue
from ck.ir.types import shape

FORMS = ("w", "neg_exp")


@irdl_op_definition
class GainOp(CkOp, RowWise, Differentiable):
    name = "ck.gain"
    x = operand_def(TensorType)
    w = operand_def(TensorType)
    form = prop_def(StringAttr)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x `,` $w attr-dict `:` type($x) `,` type($w) `->` type($y)"

    @staticmethod
    def infer(x: Attribute, w: Attribute, *, form: Attribute) -> tuple[Attribute]:
        if len(shape(x)) != 2 or shape(x)[1:] != shape(w):
            raise VerifyException(f"ck.gain: x is [T, D] and w is [D], got {x} and {w}")
        if str_value(form) not in FORMS:
            raise VerifyException(f"ck.gain: form is one of {', '.join(FORMS)}, got {str_value(form)}")
        return (x,)

    def reference(self, x: Array, w: Array) -> tuple[Array]:
        with np.errstate(over="ignore"):
            return (x * (w if self.form.data == "w" else -np.exp(w)),)

    def lower_row(self, b: RowBuilder, x: RowValue, w: RowValue) -> tuple[RowValue]:
        return (b.mul(x, w if self.form.data == "w" else b.neg(b.exp(w))),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        dx = b.insert(GainOp.build_op(dy, self.w, form=self.form, hint=f"d_{self.x.name_hint or 'x'}")).y
        # The slope of e^w is itself, so y holds all of it.
        slope = self.x if self.form.data == "w" else self.y
        rows = b.insert(MulOp.build_op(dy, slope, hint="dw_rows")).y
        dw = b.insert(ReduceRowsOp.build_op(rows, rows_per_token=rows_per_token(self, self.x)))
        dw.y.name_hint = f"d_{self.w.name_hint or 'w'}"
        return dx, dw.y

    def cost(self) -> Cost:
        rows, width = shape(self.x.type)
        return Cost(rows * width, super().cost().n_bytes)
