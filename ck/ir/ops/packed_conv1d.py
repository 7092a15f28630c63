"""`ck.packed_conv1d`: `ck.causal_conv1d` within each of a batch of packed documents.

    y[t, c] = sum_i w[c, i] * x[t - (I - 1) + i, c]      over rows from starts[t] on; others count as zeros

x [T, C] f32, w !ck.q<CxIxf32, rows>, starts [T] i32 -> y [T, C] f32. starts[t] is the first row of row t's
document: it never falls, and starts[t] <= t. Training's form: no state. 2 <= I <= 8.
Kernel: runtime_c/kernels/packed_conv1d.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import (
    Accumulates,
    AcrossRows,
    Array,
    CkOp,
    Cost,
    Differentiable,
    KernelCall,
    KernelOp,
    Live,
    WritesStates,
)
from ck.ir.ops.causal_conv1d import check_filter
from ck.ir.types import WeightType, keeps_rows, shape


def check_rows(name: str, x: Attribute, w: Attribute, starts: Attribute) -> None:
    """Raises VerifyException when filters and documents do not fit the rows."""
    check_filter(name, x, w)
    if not keeps_rows(w):
        raise VerifyException(f"{name}: w has layout rows, got {w}")
    if shape(starts) != shape(x)[:1]:
        raise VerifyException(f"{name}: starts are [{shape(x)[0]}], got {starts}")


def _sources(starts: Array, tap: int, taps: int) -> tuple[Array, Array]:
    """Rows t that tap `tap` reaches from, and the rows it reaches."""
    at = np.arange(len(starts)) - (taps - 1) + tap
    (own,) = np.nonzero(at >= starts)
    return own, at[own]


@irdl_op_definition
class PackedConv1dOp(CkOp, KernelOp, AcrossRows, Differentiable):
    name = "ck.packed_conv1d"
    x = operand_def(TensorType)
    w = operand_def(WeightType)
    starts = operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $w `,` $starts attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(x: Attribute, w: Attribute, starts: Attribute) -> tuple[Attribute]:
        check_rows("ck.packed_conv1d", x, w, starts)
        return (x,)

    def reference(self, x: Array, w: Array, starts: Array) -> tuple[Array]:
        y = np.zeros_like(x)
        for tap in range(w.shape[1]):
            rows, sources = _sources(starts, tap, w.shape[1])
            y[rows] += w[:, tap] * x[sources]
        return (y,)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue | None]:
        bwd = b.insert(PackedConv1dBwdOp.build_op(self.x, self.w, dy, self.starts, hint="d_conv"))
        bwd.dw.name_hint = f"d_{self.w.name_hint or 'w'}"
        return bwd.dx, bwd.dw, None

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_packed_conv1d",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        x, w, starts, n = ins
        (outs[0][:n],) = PackedConv1dOp.create().reference(x[:n], w, starts[:n])

    def kernels(self) -> tuple[KernelCall]:
        channels, taps = shape(self.w.type)
        ins = (self.x, self.w, self.starts, Live.N)
        return (KernelCall("ck_packed_conv1d", {"d": channels, "taps": taps}, outs=(self.y,), ins=ins),)

    def cost(self) -> Cost:
        channels, taps = shape(self.w.type)
        return Cost(2 * shape(self.x.type)[0] * channels * taps, super().cost().n_bytes)


@irdl_op_definition
class PackedConv1dBwdOp(CkOp, KernelOp, Accumulates, AcrossRows):
    """The gradient of `ck.packed_conv1d`.

    dx[r, c] = sum_i w[c, i] * dy[r + (I - 1) - i, c]      over rows of r's document
    dw[c, i] = sum_t dy[t, c] * x[t - (I - 1) + i, c]      over rows from starts[t] on  (+ into[c, i])
    """

    name = "ck.packed_conv1d_bwd"
    x = operand_def(TensorType)
    w = operand_def(WeightType)
    dy = operand_def(TensorType)
    starts = operand_def(TensorType)
    into = opt_operand_def(WeightType)
    dx = result_def(TensorType)
    dw = result_def(WeightType)
    traits = traits_def(WritesStates())
    assembly_format = (
        "$x `,` $w `,` $dy `,` $starts (`into` $into^)? attr-dict `:` functional-type(operands, results)"
    )
    ACCUMULATED: ClassVar[int] = 1

    @staticmethod
    def infer(
        x: Attribute, w: Attribute, dy: Attribute, starts: Attribute, into: Attribute | None = None
    ) -> tuple[Attribute, Attribute]:
        check_rows("ck.packed_conv1d_bwd", x, w, starts)
        if dy != x:
            raise VerifyException(f"ck.packed_conv1d_bwd: dy is {x}, got {dy}")
        if into is not None and into != w:
            raise VerifyException(f"ck.packed_conv1d_bwd: into is {w}, got {into}")
        return x, w

    @property
    def accumulator(self) -> SSAValue | None:
        return self.into

    def reference(
        self, x: Array, w: Array, dy: Array, starts: Array, into: Array | None = None
    ) -> tuple[Array, Array]:
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for tap in range(w.shape[1]):
            rows, sources = _sources(starts, tap, w.shape[1])
            dx[sources] += w[:, tap] * dy[rows]
            dw[:, tap] = (dy[rows] * x[sources]).sum(0)
        return dx, dw if into is None else into + dw

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_packed_conv1d_bwd",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        x, w, dy, starts, n = ins
        outs[0][:n], dw = PackedConv1dBwdOp.create().reference(x[:n], w, dy[:n], starts[:n])
        outs[1][:] = dw + (outs[1] if immediates["add"] else 0)

    def kernels(self) -> tuple[KernelCall]:
        channels, taps = shape(self.w.type)
        immediates = {"d": channels, "taps": taps, "add": int(self.into is not None)}
        ins = (self.x, self.w, self.dy, self.starts, Live.N)
        return (KernelCall("ck_packed_conv1d_bwd", immediates, outs=(self.dx, self.dw), ins=ins),)

    def cost(self) -> Cost:
        channels, taps = shape(self.w.type)
        return Cost(4 * shape(self.x.type)[0] * channels * taps, super().cost().n_bytes)
