"""`ck.kv_append`: write one step's keys and values into a layer's cache.

    cache.k[h, (pos + t) mod C] = k[t, h],  cache.v likewise,  for t in [0, n)

cache !ck.kv<HxCxK>, k, v [T, H * K] f32, pos and n index -> the same cache. A cache of C positions keeps the
last C.
Kernel: runtime_c/kernels/kv_append.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import IndexType, TensorType
from xdsl.ir import Attribute
from xdsl.irdl import irdl_op_definition, operand_def, result_def
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, InPlace, KernelCall, KernelOp
from ck.ir.types import KvType, shape


@irdl_op_definition
class KvAppendOp(CkOp, KernelOp, InPlace):
    name = "ck.kv_append"
    cache = operand_def(KvType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    n = operand_def(IndexType)
    pos = operand_def(IndexType)
    y = result_def(KvType)
    assembly_format = (
        "$cache `,` $k `,` $v `,` $n `,` $pos attr-dict "
        "`:` type($cache) `,` type($k) `,` type($v) `->` type($y)"
    )

    @staticmethod
    def infer(cache: Attribute, k: Attribute, v: Attribute, n: Attribute, pos: Attribute) -> tuple[Attribute]:
        heads, _, head_dim = shape(cache)
        if shape(k) != shape(v) or shape(k)[1] != heads * head_dim:
            raise VerifyException(f"ck.kv_append: k and v are [T, {heads * head_dim}], got {k} and {v}")
        return (cache,)

    def reference(self, cache: Any, k: Array, v: Array, n: int, pos: int) -> tuple[Any]:
        """`cache` is a pair of arrays [heads, capacity, head width], keys and values, changed in place."""
        keys, values = cache
        heads, capacity, head_dim = keys.shape
        slots = (pos + np.arange(n)) % capacity
        keys[:, slots] = k[:n].reshape(n, heads, head_dim).transpose(1, 0, 2)
        values[:, slots] = v[:n].reshape(n, heads, head_dim).transpose(1, 0, 2)
        return (cache,)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_kv_append_",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        KvAppendOp.create().reference(outs[0], *ins)

    def kernels(self) -> tuple[KernelCall]:
        assert isinstance(self.cache.type, KvType)
        heads, capacity, head_dim = shape(self.cache.type)
        immediates = {"kv_heads": heads, "head_dim": head_dim, "capacity": capacity}
        return (KernelCall(f"ck_kv_append_{self.cache.type.dtype_name}", immediates, split="rows"),)
