"""`ck.attention`: causal grouped-query attention of one step's queries over a layer's cache.

    s[t, p] = scale * q[t, h] . k[h / group, p]      for p with pos + t - window < p <= pos + t
    y[t, h] = sum_p softmax_p(s[t, p]) v[h / group, p]

q [T, H * K] f32, cache !ck.kv<GxCxK>, n and pos index -> y [T, H * K] f32. window 0 means no window.
Sources: Vaswani et al. 2017, arXiv:1706.03762; Ainslie et al. 2023, arXiv:2305.13245 (GQA); of the kernel's
online softmax: Milakov and Gimelshein 2018, arXiv:1805.02867. Kernel: runtime_c/kernels/attention.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, TensorType
from xdsl.ir import Attribute
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, KernelCall, KernelOp, attr, float_value, int_value
from ck.ir.types import KvType, shape

# The kernel takes a row of a head by whole vectors.
HEAD_LANES = 16


@irdl_op_definition
class AttentionOp(CkOp, KernelOp):
    name = "ck.attention"
    q = operand_def(TensorType)
    cache = operand_def(KvType)
    n = operand_def(IndexType)
    pos = operand_def(IndexType)
    heads = prop_def(IntegerAttr)
    scale = prop_def(FloatAttr)
    window = prop_def(IntegerAttr)
    y = result_def(TensorType)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$q `,` $cache `,` $n `,` $pos attr-dict `:` type($q) `,` type($cache) `->` type($y)"

    @staticmethod
    def infer(
        q: Attribute,
        cache: Attribute,
        n: Attribute,
        pos: Attribute,
        *,
        heads: Attribute,
        scale: Attribute,
        window: Attribute,
    ) -> tuple[Attribute]:
        groups, _, head_dim = shape(cache)
        if shape(q)[1] != int_value(heads) * head_dim or int_value(heads) % groups:
            raise VerifyException(f"ck.attention: {int_value(heads)} heads of {q} do not fit cache {cache}")
        if head_dim % HEAD_LANES:
            raise VerifyException(
                f"ck.attention: heads are multiples of {HEAD_LANES} columns, got {head_dim} in {cache}"
            )
        return (q,)

    def reference(self, q: Array, cache: Any, n: int, pos: int) -> tuple[Array]:
        keys, values = cache
        groups, capacity, head_dim = keys.shape
        heads, window = int_value(self.heads), int_value(self.window)
        scale = q.dtype.type(float_value(self.scale))
        y = np.full_like(q, np.nan)
        for t in range(n):
            first = max(0, pos + t - window + 1) if window else 0
            slots = np.arange(first, pos + t + 1) % capacity
            k, v = keys[:, slots].astype(q.dtype), values[:, slots].astype(q.dtype)
            rows = q[t].reshape(groups, heads // groups, head_dim)
            scores = np.einsum("ghd,gpd->ghp", rows * scale, k)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            y[t] = np.einsum("ghp,gpd->ghd", weights, v).reshape(-1)
        return (y,)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_attention_",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        q, cache, n, pos = ins
        op = AttentionOp.create(
            properties={key: attr(immediates[key]) for key in ("heads", "scale", "window")}
        )
        outs[0][:n] = op.reference(q, cache, n, pos)[0][:n]

    def kernels(self) -> tuple[KernelCall]:
        assert isinstance(self.cache.type, KvType)
        groups, capacity, head_dim = shape(self.cache.type)
        immediates: dict[str, int | float] = {
            "heads": int_value(self.heads),
            "kv_heads": groups,
            "head_dim": head_dim,
            "capacity": capacity,
            "window": int_value(self.window),
            "scale": float_value(self.scale),
        }
        return (KernelCall(f"ck_attention_{self.cache.type.dtype_name}", immediates),)
