"""`ck.quantize_rows`: round each row to 15 bits in blocks of 32 columns, one f32 scale a block.

    d[t, b] = max_i |x[t, 32 b + i]| / 16256                          16256 = 127 * 128
    q[t, i] = round_half_even(x[t, i] * (1 / d[t, i / 32])),          0 where d is 0 or subnormal
            = 128 * high + low,                                       low in -64..63

A subnormal d is 0: 1 / d could be infinite. A block with a NaN or an infinity has d = NaN and q = 0, so what
is computed from it is NaN.

x [T, K] f32 -> !ck.q16<TxK>; a row lies as ck/dtypes.py says. Both planes are operands of the int8 products,
so the activations cost one product more and none of the model's accuracy: with 8 bits SmolLM2-135M's mean KLD
to its own dequantised weights is 4e-3, with 15 bits 1e-6 (128 tokens of prose, 2026-11-23).
Kernel: runtime_c/kernels/quantize. Inserted by ck-assign-layouts in front of products with quantised weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure

from ck.ir.op import Array, CkOp, KernelCall, KernelOp
from ck.ir.types import ActivationType, shape


@irdl_op_definition
class QuantizeRowsOp(CkOp, KernelOp):
    name = "ck.quantize_rows"
    x = operand_def(TensorType)
    y = result_def(ActivationType)
    traits = traits_def(Pure())
    assembly_format = "$x attr-dict `:` type($x) `->` type($y)"

    @staticmethod
    def infer(x: Attribute) -> tuple[Attribute]:
        return (ActivationType.of(shape(x)),)

    def reference(self, x: Array) -> tuple[Array]:
        rows, k = x.shape
        blocks = x.astype(np.float32).reshape(rows, k // 32, 32)
        scale = np.abs(blocks).max(-1) / np.float32(16256)
        scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(0), scale)
        scale = np.where(np.isfinite(scale), scale, np.float32(np.nan))
        usable = (scale > 0)[:, :, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            q = np.where(usable, np.rint(blocks * (np.float32(1) / scale)[:, :, None]), 0).astype(np.int32)
        high = (q + 64) >> 7
        low = q - 128 * high
        sums = q.reshape(rows, k // 16, 16).sum(-1, dtype=np.int32)
        planes = [plane.astype(np.int8).reshape(rows, k) for plane in (high, low)]
        parts = [*planes, scale.astype(np.float32), sums]
        return (np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts], axis=1),)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_quantize_rows",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        x, n = ins
        (outs[0][:n],) = QuantizeRowsOp.create().reference(x[:n])

    def kernels(self) -> tuple[KernelCall]:
        return (KernelCall("ck_quantize_rows", {"k": shape(self.x.type)[1]}, split="rows"),)
