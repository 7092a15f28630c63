"""`ck.quantize_rows`: round each row to int8 in blocks of 32 columns, one f32 scale a block.

    d[t, b] = max_i |x[t, 32 b + i]| / 127
    q[t, i] = round_half_even(x[t, i] * (1 / d[t, i / 32]))    in -127..127;  0 where d is 0

x [T, K] f32 -> !ck.q8<TxK>; a row lies as ck/dtypes.py says. Kernel: runtime_c/kernels/quantize.
Inserted by ck-assign-layouts in front of products with quantised weights.
"""

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
        scale = np.abs(blocks).max(-1) / np.float32(127)
        with np.errstate(divide="ignore"):
            inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
        q = np.rint(blocks * inverse[:, :, None]).astype(np.int8)
        sums = q.reshape(rows, k // 16, 16).sum(-1, dtype=np.int16)
        parts = [q.reshape(rows, k), scale.astype(np.float32), sums]
        return (np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts], axis=1),)

    def kernels(self) -> tuple[KernelCall]:
        return (KernelCall("ck_quantize_rows", {"k": shape(self.x.type)[1]}, split="rows"),)
