"""`ck.causal_conv1d`: filter every channel over its last I rows, going on from the rows before.

    y[t, c] = sum_i w[c, i] * x[t - (I - 1) + i, c]      for t in [0, n)

The rows in front of row 0 are those of the state, which holds x of the last I - 1 positions; at pos 0 they
are zeros, whatever the state holds. state !ck.state<(I-1)xC>, x [T, C] f32, w !ck.q<CxI> of f32, f16 or bf16,
n and pos index -> y [T, C] f32, and the state of position pos + n, in the same place. 2 <= I <= 8.
Source: Gu and Dao 2023, arXiv:2312.00752, section 3.4 (the convolution of a block, with its cache).
Kernel: runtime_c/kernels/causal_conv1d.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import IndexType, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, result_def
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, Cost, KernelCall, KernelOp, Updates
from ck.ir.ops.linear import storage_of
from ck.ir.types import StateType, WeightType, shape

# The kernels keep a filter of so many taps on their stack.
MOST_TAPS = 8


def check_filter(name: str, x: Attribute, w: Attribute) -> int:
    """The taps of filters `w` for the channels of `x`; raises VerifyException when they do not fit."""
    if len(shape(x)) != 2 or shape(x)[1] != shape(w)[0]:
        raise VerifyException(f"{name}: rows of x {x} have a filter a column, w is {w}")
    taps = shape(w)[1]
    if not 2 <= taps <= MOST_TAPS:
        raise VerifyException(f"{name}: a filter has 2 to {MOST_TAPS} taps, got {taps} in {w}")
    return taps


def convolved(before: Array, x: Array, w: Array) -> Array:
    """The filters' results on the rows of `x`, with the rows `before` [I - 1, C] in front of them."""
    taps, rows = w.shape[1], np.concatenate([before.astype(x.dtype), x])
    return np.asarray(sum(rows[i : i + len(x)] * w[:, i] for i in range(taps)))


@irdl_op_definition
class CausalConv1dOp(CkOp, KernelOp, Updates):
    name = "ck.causal_conv1d"
    state = operand_def(StateType)
    x = operand_def(TensorType)
    w = operand_def(WeightType)
    n = operand_def(IndexType)
    pos = operand_def(IndexType)
    y = result_def(TensorType)
    after = result_def(StateType)
    assembly_format = (
        "$state `,` $x `,` $w `,` $n `,` $pos attr-dict "
        "`:` type($state) `,` type($x) `,` type($w) `->` type($y) `,` type($after)"
    )

    @staticmethod
    def infer(
        state: Attribute, x: Attribute, w: Attribute, n: Attribute, pos: Attribute
    ) -> tuple[Attribute, Attribute]:
        taps = check_filter("ck.causal_conv1d", x, w)
        if isinstance(w, WeightType) and w.row.quantized:
            raise VerifyException(f"ck.causal_conv1d: w is f32, f16 or bf16, got {w}")
        wanted = StateType.of(taps - 1, shape(x)[1])
        if state != wanted:
            raise VerifyException(f"ck.causal_conv1d: the state is {wanted}, got {state}")
        return x, state

    @property
    def updated(self) -> Sequence[tuple[SSAValue, SSAValue]]:
        return ((self.after, self.state),)

    def reference(self, state: Array, x: Array, w: Array, n: int, pos: int) -> tuple[Array, Array]:
        """`state` is changed in place."""
        before = state if pos else np.zeros_like(state)
        y = convolved(before, x[:n], w)
        state[:] = np.concatenate([before, x[:n]])[n:]
        return y, state

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_causal_conv1d_",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        x, w, n, pos = ins
        outs[1][:n], _ = CausalConv1dOp.create().reference(outs[0], x, w, n, pos)

    def kernels(self) -> tuple[KernelCall]:
        channels, taps = shape(self.w.type)
        symbol = f"ck_causal_conv1d_{storage_of(self.w.type)}"
        ins = (self.x, self.w, self.n, self.pos)
        return (KernelCall(symbol, {"d": channels, "taps": taps}, outs=(self.after, self.y), ins=ins),)

    def cost(self) -> Cost:
        channels, taps = shape(self.w.type)
        return Cost(2 * shape(self.x.type)[0] * channels * taps, super().cost().n_bytes)
