"""`ck.packed_attention`: causal grouped-query attention among the rows of a batch of packed documents.

    s[t, p] = scale * q[t, h] . k[p, h / group]     for p with max(starts[t], t - window + 1) <= p <= t
    lse[t, h] = log sum_p e^s[t, p]
    y[t, h]   = sum_p e^(s[t, p] - lse[t, h]) v[p, h / group]

q [T, H * K], k, v [T, G * K] f32, starts [T] i32 -> y [T, H * K], lse [T, H] f32. starts[t] is the first row
of row t's document: it never falls, and starts[t] <= t. window 0 means no window. Training's form of
attention: whole documents at once and no cache. Sources: Vaswani et al. 2017, arXiv:1706.03762; Ainslie et
al. 2023, arXiv:2305.13245 (GQA); Dao et al. 2022, arXiv:2205.14135 (the gradient from lse, without the T x T
matrix). Kernel: runtime_c/kernels/packed_attention.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import (
    AcrossRows,
    Array,
    CkOp,
    Cost,
    Differentiable,
    KernelCall,
    KernelOp,
    Live,
    attr,
    float_value,
    int_value,
)
from ck.ir.types import shape, tensor

# The kernel keeps a row of every operand on its stack.
WIDEST_HEAD = 512


class _Attention(CkOp, KernelOp, AcrossRows):
    """What the op and its gradient share."""

    heads = prop_def(IntegerAttr)
    kv_heads = prop_def(IntegerAttr)
    scale = prop_def(FloatAttr)
    window = prop_def(IntegerAttr)

    @property
    def groups(self) -> tuple[int, int]:
        """Key/value heads, and query heads of each."""
        kv_heads = int_value(self.kv_heads)
        return kv_heads, int_value(self.heads) // kv_heads

    def _by_head(self, x: Array, per_group: int) -> Array:
        """Rows [T, G * P * K] as [G, P, T, K]."""
        kv_heads = int_value(self.kv_heads)
        return x.reshape(len(x), kv_heads, per_group, -1).transpose(1, 2, 0, 3)

    @staticmethod
    def _by_row(x: Array) -> Array:
        """[G, P, T, K] as rows [T, G * P * K]."""
        return np.ascontiguousarray(x.transpose(2, 0, 1, 3)).reshape(x.shape[2], -1)

    def _visible(self, starts: Array) -> Array:
        """[T, T]: whether row t sees row p."""
        t, p = np.arange(len(starts))[:, None], np.arange(len(starts))[None, :]
        window = int_value(self.window)
        return (p <= t) & (p >= starts[:, None]) & ((p > t - window) if window else True)

    def _scores(self, q: Array, k: Array, starts: Array) -> Array:
        """[G, H/G, T, T], -inf where not visible."""
        queries, keys = self._by_head(q, self.groups[1]), self._by_head(k, 1)
        scores = queries @ keys.swapaxes(2, 3) * q.dtype.type(float_value(self.scale))
        return np.where(self._visible(starts), scores, -np.inf)

    def _immediates(self) -> dict[str, int | float]:
        heads = int_value(self.heads)
        return {
            "heads": heads,
            "kv_heads": int_value(self.kv_heads),
            "head_dim": shape(self.operands[0].type)[1] // heads,
            "window": int_value(self.window),
            "scale": float_value(self.scale),
        }

    def cost(self) -> Cost:
        """Of one document that fills the batch; a triangle of two products, in the gradient of five."""
        rows, columns = shape(self.operands[0].type)
        return Cost(len(self.results) * rows * rows * columns, super().cost().n_bytes)


_IMMEDIATES = ("heads", "kv_heads", "scale", "window")


def _properties(immediates: Mapping[str, Any]) -> dict[str, Attribute]:
    return {name: attr(immediates[name]) for name in _IMMEDIATES}


def check_rows(
    name: str,
    q: Attribute,
    k: Attribute,
    v: Attribute,
    starts: Attribute,
    properties: Mapping[str, Attribute],
) -> None:
    """Raises VerifyException when the rows do not fit the heads."""
    heads, kv_heads = int_value(properties["heads"]), int_value(properties["kv_heads"])
    rows, columns = shape(q)
    if columns % heads or heads % kv_heads or shape(k) != (rows, columns // heads * kv_heads) or v != k:
        raise VerifyException(f"{name}: {heads} heads of {q} do not fit {kv_heads} of {k} and {v}")
    if columns // heads > WIDEST_HEAD:
        raise VerifyException(f"{name}: a head has at most {WIDEST_HEAD} columns, got {columns // heads}")
    if shape(starts) != (rows,):
        raise VerifyException(f"{name}: starts are [{rows}], got {starts}")


@irdl_op_definition
class PackedAttentionOp(_Attention, Differentiable):
    name = "ck.packed_attention"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    starts = operand_def(TensorType)
    y = result_def(TensorType)
    lse = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$q `,` $k `,` $v `,` $starts attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(
        q: Attribute, k: Attribute, v: Attribute, starts: Attribute, **properties: Attribute
    ) -> tuple[Attribute, Attribute]:
        check_rows("ck.packed_attention", q, k, v, starts, properties)
        return q, tensor(shape(q)[0], int_value(properties["heads"]))

    def reference(self, q: Array, k: Array, v: Array, starts: Array) -> tuple[Array, Array]:
        scores = self._scores(q, k, starts)
        top = scores.max(-1, keepdims=True)
        lse = top + np.log(np.exp(scores - top).sum(-1, keepdims=True))
        return self._by_row(np.exp(scores - lse) @ self._by_head(v, 1)), self._by_row(lse)

    def vjp(self, b: Builder, dy: SSAValue, dlse: SSAValue | None = None) -> Sequence[SSAValue | None]:
        """Of y alone: lse is for the gradient itself to read."""
        if dlse is not None:
            raise VerifyException("ck.packed_attention: no gradient flows through lse, and a result reads it")
        operands = (self.q, self.k, self.v, self.starts, self.y, self.lse, dy)
        bwd = b.insert(PackedAttentionBwdOp.build_op(*operands, **self.properties, hint="d_q"))
        bwd.dk.name_hint, bwd.dv.name_hint = "d_k", "d_v"
        return bwd.dq, bwd.dk, bwd.dv, None

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_packed_attention",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        *rows, n = ins
        op = PackedAttentionOp.create(properties=_properties(immediates))
        outs[0][:n], outs[1][:n] = op.reference(*(x[:n] for x in rows))

    def kernels(self) -> tuple[KernelCall]:
        ins = (self.q, self.k, self.v, self.starts, Live.N)
        outs = (self.y, self.lse)
        return (KernelCall("ck_packed_attention", self._immediates(), outs=outs, ins=ins),)


@irdl_op_definition
class PackedAttentionBwdOp(_Attention):
    """The gradient of `ck.packed_attention` from y, its log-sum-exp and dy.

    p = e^(s - lse), delta[t, h] = dy[t, h] . y[t, h], ds[t, p] = p[t, p] * (dy[t, h] . v[p] - delta[t, h])
    dq[t] = scale * sum_p ds[t, p] k[p];  dk[p] = scale * sum_t ds[t, p] q[t];  dv[p] = sum_t p[t, p] dy[t]
    """

    name = "ck.packed_attention_bwd"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    starts = operand_def(TensorType)
    y = operand_def(TensorType)
    lse = operand_def(TensorType)
    dy = operand_def(TensorType)
    dq = result_def(TensorType)
    dk = result_def(TensorType)
    dv = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$q `,` $k `,` $v `,` $starts `,` $y `,` $lse `,` $dy attr-dict "
        "`:` functional-type(operands, results)"
    )

    @staticmethod
    def infer(
        q: Attribute,
        k: Attribute,
        v: Attribute,
        starts: Attribute,
        y: Attribute,
        lse: Attribute,
        dy: Attribute,
        **properties: Attribute,
    ) -> tuple[Attribute, ...]:
        check_rows("ck.packed_attention_bwd", q, k, v, starts, properties)
        if y != q or dy != q or shape(lse) != (shape(q)[0], int_value(properties["heads"])):
            raise VerifyException(f"ck.packed_attention_bwd: y {y}, lse {lse} and dy {dy} do not fit q {q}")
        return q, k, k

    def reference(
        self, q: Array, k: Array, v: Array, starts: Array, y: Array, lse: Array, dy: Array
    ) -> tuple[Array, Array, Array]:
        group = self.groups[1]
        weights = np.exp(self._scores(q, k, starts) - self._by_head(lse, group))
        queries, slopes = self._by_head(q, group), self._by_head(dy, group)
        delta = (slopes * self._by_head(y, group)).sum(-1, keepdims=True)
        ds = weights * (slopes @ self._by_head(v, 1).swapaxes(2, 3) - delta)
        ds = ds * q.dtype.type(float_value(self.scale))
        dk = (ds.swapaxes(2, 3) @ queries).sum(1, keepdims=True)
        dv = (weights.swapaxes(2, 3) @ slopes).sum(1, keepdims=True)
        return self._by_row(ds @ self._by_head(k, 1)), self._by_row(dk), self._by_row(dv)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_packed_attention_bwd",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        q, k, v, y, lse, dy, starts, n = ins
        op = PackedAttentionBwdOp.create(properties=_properties(immediates))
        results = op.reference(*(x[:n] for x in (q, k, v, starts, y, lse, dy)))
        for out, rows in zip(outs, results, strict=True):
            out[:n] = rows

    def kernels(self) -> tuple[KernelCall]:
        ins = (self.q, self.k, self.v, self.y, self.lse, self.dy, self.starts, Live.N)
        outs = (self.dq, self.dk, self.dv)
        return (KernelCall("ck_packed_attention_bwd", self._immediates(), outs=outs, ins=ins),)
