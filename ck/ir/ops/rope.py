"""`ck.rope`: rotate pairs of columns of every head by the angles of a `ck.rope_table`.

    (y[a], y[b]) = (x[a] cos - x[b] sin, x[b] cos + x[a] sin)
    mode "neox":        a = i, b = i + D/2          (the halves of a head)
    mode "interleaved": a = 2 i, b = 2 i + 1        (neighbours)
    with `_inverse` behind the mode they turn back: sin is negated, which is the gradient of the turn

x [T, H * K] f32, table [T, D] f32 -> y [T, H * K] f32. The first D <= K columns of each head turn, the rest
are copied.
Source: Su et al. 2021, arXiv:2104.09864, eq. 34. Kernel: runtime_c/kernels/rope.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import IntegerAttr, StringAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import (
    Array,
    CkOp,
    Differentiable,
    InPlace,
    KernelCall,
    KernelOp,
    attr,
    int_value,
    str_value,
)
from ck.ir.types import shape

MODES = {"interleaved": 0, "neox": 1, "interleaved_inverse": 2, "neox_inverse": 3}
INVERSE = "_inverse"


@irdl_op_definition
class RopeOp(CkOp, KernelOp, InPlace, Differentiable):
    name = "ck.rope"
    x = operand_def(TensorType)
    table = operand_def(TensorType)
    heads = prop_def(IntegerAttr)
    mode = prop_def(StringAttr)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x `,` $table attr-dict `:` type($x) `,` type($table) `->` type($y)"

    @staticmethod
    def infer(x: Attribute, table: Attribute, *, heads: Attribute, mode: Attribute) -> tuple[Attribute]:
        rows, columns = shape(x)
        if (
            columns % int_value(heads)
            or shape(table)[0] != rows
            or shape(table)[1] > columns // int_value(heads)
        ):
            raise VerifyException(f"ck.rope: {int_value(heads)} heads of {x} do not fit table {table}")
        if shape(table)[1] % 2:
            raise VerifyException(f"ck.rope: columns turn in pairs, table is {table}")
        if str_value(mode) not in MODES:
            raise VerifyException(f"ck.rope: mode is one of {', '.join(MODES)}, got {str_value(mode)}")
        return (x,)

    def reference(self, x: Array, table: Array) -> tuple[Array]:
        rows, dims = table.shape
        y = x.reshape(rows, int_value(self.heads), -1).copy()
        half = dims // 2
        neox = self.mode.data.startswith("neox")
        a, b = (slice(0, half), slice(half, dims)) if neox else (slice(0, dims, 2), slice(1, dims, 2))
        cos, sin = table[:, None, :half], table[:, None, half:]
        sin = -sin if self.mode.data.endswith(INVERSE) else sin
        left, right = y[..., a].copy(), y[..., b].copy()
        y[..., a] = left * cos - right * sin
        y[..., b] = right * cos + left * sin
        return (np.ascontiguousarray(y.reshape(x.shape)),)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue | None]:
        mode = self.mode.data
        back = mode.removesuffix(INVERSE) if mode.endswith(INVERSE) else mode + INVERSE
        dx = b.insert(RopeOp.build_op(dy, self.table, heads=self.heads, mode=back, hint="d_rope")).y
        return dx, None

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_rope",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        x, table, n = ins
        mode = next(name for name, number in MODES.items() if number == immediates["mode"])
        op = RopeOp.create(properties={"heads": attr(immediates["heads"]), "mode": attr(mode)})
        (outs[0][:n],) = op.reference(x[:n], table[:n])

    def kernels(self) -> tuple[KernelCall]:
        heads = int_value(self.heads)
        immediates = {
            "heads": heads,
            "head_dim": shape(self.x.type)[1] // heads,
            "mode": MODES[self.mode.data],
            "dims": shape(self.table.type)[1],
        }
        return (KernelCall("ck_rope", immediates, split="rows"),)
