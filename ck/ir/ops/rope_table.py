"""`ck.rope_table`: the cosines and sines that rotate one step's queries and keys.

    a[t, i]              = p[t] * freq[i]                      rounded to f32, as transformers does
    table[t, i]          = cos(a[t, i])  (* factor)
    table[t, D/2 + i]    = sin(a[t, i])  (* factor)

freq [D/2] f32, radians a position (every scaling of positions is in these numbers); pos an index, the
position of the first row: p[t] = pos + t; or each row's own position, pos [T, 1] f32, whole numbers below
2^24; factor scales q.k by its square (YaRN) -> table [T, D] f32.
Source: Su et al. 2021, arXiv:2104.09864, section 3.2; Peng et al. 2023, arXiv:2309.00071, section 3.4.
"""

import numpy as np
from xdsl.dialects.arith import AddiOp, IndexCastOp, MulfOp, SIToFPOp
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, TensorType, f32, i32
from xdsl.dialects.math import CosOp, SinOp
from xdsl.dialects.vector import BroadcastOp
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, RowWise, float_value, int_value
from ck.ir.rows import VECTOR, Columns, RowBuilder, RowValue
from ck.ir.types import is_tensor, shape, tensor


@irdl_op_definition
class RopeTableOp(CkOp, RowWise):
    name = "ck.rope_table"
    freq = operand_def(TensorType)
    pos = operand_def(IndexType | TensorType)
    rows = prop_def(IntegerAttr)
    factor = opt_prop_def(FloatAttr)
    table = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$freq `,` $pos attr-dict `:` type($freq) `,` type($pos) `->` type($table)"

    @staticmethod
    def infer(
        freq: Attribute, pos: Attribute, *, rows: Attribute, factor: Attribute | None = None
    ) -> tuple[Attribute]:
        if len(shape(freq)) != 1:
            raise VerifyException(f"ck.rope_table: freq is [D/2], got {freq}")
        if is_tensor(pos) and shape(pos) != (int_value(rows), 1):
            raise VerifyException(f"ck.rope_table: positions are {tensor(int_value(rows), 1)}, got {pos}")
        return (tensor(int_value(rows), 2 * shape(freq)[0]),)

    def reference(self, freq: Array, pos: int | Array) -> tuple[Array]:
        if isinstance(pos, np.ndarray):
            at = pos[:, 0].astype(np.float32)
        else:
            at = np.arange(pos, pos + int_value(self.rows), dtype=np.float32)
        angle = (at[:, None] * freq[None, :]).astype(np.float32).astype(freq.dtype)
        table = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        return (table if self.factor is None else table * table.dtype.type(float_value(self.factor)),)

    def lower_row(self, b: RowBuilder, freq: RowValue, pos: SSAValue | RowValue) -> tuple[RowValue]:
        half = shape(self.freq.type)[0]
        buffer = b.buffers[self.table]
        if isinstance(pos, SSAValue):
            at = b.insert(SIToFPOp(b.insert(IndexCastOp(b.insert(AddiOp(pos, b.row)), i32)), f32))
        else:
            at = b.sum(pos, 1)
        position = b.insert(BroadcastOp(at, VECTOR))
        scale = None if self.factor is None else b.constant(float_value(self.factor))

        def scaled(value: SSAValue, columns: Columns) -> SSAValue:
            return value if scale is None else b.insert(MulfOp(value, scale.columns(columns)))

        def body(columns: Columns) -> None:
            angle = b.insert(MulfOp(position, freq.columns(columns)))
            b.store(scaled(b.insert(CosOp(angle)), columns), buffer, columns)
            right = b.insert(AddiOp(columns.index, b.index(half)))
            b.store(scaled(b.insert(SinOp(angle)), columns), buffer, Columns(right, columns.live))

        b.for_columns(half, body)
        return (b.row_of(buffer),)
