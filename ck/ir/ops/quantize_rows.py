"""`ck.quantize_rows`: round each row to 15 bits, or to 8, in blocks of 32 columns, one f32 scale a block.

    d[t, b] = max_i |x[t, 32 b + i]| / M                              M = 16256 = 127 * 128, in 8 bits 127
    q[t, i] = round_half_even(x[t, i] * (1 / d[t, i / 32])),          0 where d is 0 or subnormal
            = 128 * high + low,                                       low in -64..63; 8 bits have one plane

A subnormal d is 0: 1 / d could be infinite. A block with a NaN or an infinity has d = NaN and q = 0, so what
is computed from it is NaN.

x [T, K] f32 -> !ck.q16<TxK>, or with bits = 8 !ck.q8<TxK>; runtime_c/blocks.h draws a row. Both planes are
operands of the int8 products, so 15 bits cost one product more and none of the model's accuracy: with 8 bits
SmolLM2-135M's mean KLD to its own dequantised weights is 4e-3, with 15 bits 1e-6 (128 tokens of prose,
2026-11-23).
Kernel: runtime_c/kernels/quantize. Inserted by ck-assign-layouts in front of products with quantised weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import IntegerAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, KernelCall, KernelOp, int_value
from ck.ir.types import ActivationType, Q8Type, Q16Type, shape

# The largest |q|, by planes.
_LARGEST = {2: 16256, 1: 127}


@irdl_op_definition
class QuantizeRowsOp(CkOp, KernelOp):
    name = "ck.quantize_rows"
    x = operand_def(TensorType)
    bits = opt_prop_def(IntegerAttr)
    y = result_def(ActivationType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"

    @staticmethod
    def to(x: SSAValue, rows: str, hint: str) -> "QuantizeRowsOp":
        """The op that makes q16 or q8 rows of `x`."""
        bits = {"bits": 8} if rows == "q8" else {}
        return QuantizeRowsOp.build_op(x, hint=hint, **bits)

    @staticmethod
    def infer(x: Attribute, *, bits: Attribute | None = None) -> tuple[Attribute]:
        if bits is None:
            return (Q16Type.of(shape(x)),)
        if int_value(bits) != 8:
            raise VerifyException(f"ck.quantize_rows: bits is 8 or absent, got {int_value(bits)}")
        return (Q8Type.of(shape(x)),)

    def reference(self, x: Array) -> tuple[Array]:
        return (quantize(x, 2 if self.bits is None else 1),)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_quantize_rows",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        x, n = ins
        outs[0][:n] = quantize(x[:n], 1 if symbol.endswith("_q8") else 2)

    def kernels(self) -> tuple[KernelCall]:
        symbol = "ck_quantize_rows" if self.bits is None else "ck_quantize_rows_q8"
        return (KernelCall(symbol, {"k": shape(self.x.type)[1]}, split="rows"),)


def quantize(x: Array, planes: int) -> Array:
    """Rows of `planes` planes as they lie in memory: x [T, K] -> uint8 [T, bytes]."""
    rows, k = x.shape
    blocks = x.astype(np.float32).reshape(rows, k // 32, 32)
    scale = np.abs(blocks).max(-1) / np.float32(_LARGEST[planes])
    scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(0), scale)
    scale = np.where(np.isfinite(scale), scale, np.float32(np.nan))
    usable = (scale > 0)[:, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(usable, np.rint(blocks * (np.float32(1) / scale)[:, :, None]), 0).astype(np.int32)
    high = (q + 64) >> 7
    parts = [high, q - 128 * high] if planes == 2 else [q]
    sums = q.reshape(rows, k // 16, 16).sum(-1, dtype=np.int32)
    stored = [*(part.astype(np.int8).reshape(rows, k) for part in parts), scale.astype(np.float32), sums]
    return np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in stored], axis=1)
