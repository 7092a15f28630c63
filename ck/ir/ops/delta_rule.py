"""`ck.delta_rule`: gated linear attention over a state of one matrix a value head, one row after the other.

    S[h]    = e^g[t, h] * S[h]
    d       = beta[t, h] * (v[t, h] - S[h]^T k[t, c])
    S[h]    = S[h] + k[t, c] (x) d
    y[t, h] = scale * S[h]^T q[t, c]                     for t in [0, n)

c, the key head of value head h, is h // (H / G) in order "grouped", h % G in order "cyclic". At pos 0 the
state starts as zeros, whatever it holds. state !ck.state<HxKxVxf32>, q, k [T, G * K], v [T, H * V], g, beta
[T, H] f32, n and pos index -> y [T, H * V] f32, and the state of position pos + n, in the same place. K is at
most 256.
Source: Yang et al. 2024, arXiv:2412.06464, eq. 10. Kernel: runtime_c/kernels/delta_rule.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, StringAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, Cost, KernelCall, KernelOp, Updates, attr, float_value, int_value, str_value
from ck.ir.types import StateType, shape

# The kernel keeps a strip of a state of so many rows on its stack.
MOST_KEYS = 256
ORDERS = ("grouped", "cyclic")
PROPERTIES = ("heads", "key_heads", "order", "scale")


class DeltaHeads(CkOp, KernelOp):
    """The heads of a delta rule, as its forms share them."""

    heads = prop_def(IntegerAttr)
    key_heads = prop_def(IntegerAttr)
    order = prop_def(StringAttr)
    scale = prop_def(FloatAttr)

    def by_head(self, x: Array, heads: int) -> Array:
        """Rows [T, heads * K] as [T, heads, K]."""
        return x.reshape(len(x), heads, -1)

    def keys_by_head(self, x: Array) -> Array:
        """Rows [T, G * K] as what each value head reads: [T, H, K]."""
        heads, key_heads = int_value(self.heads), int_value(self.key_heads)
        rows = self.by_head(x, key_heads)
        if self.order.data == "cyclic":
            return np.tile(rows, (1, heads // key_heads, 1))
        return np.repeat(rows, heads // key_heads, axis=1)

    def keys_of_heads(self, x: Array) -> Array:
        """What each value head adds to its key head, [T, H, K], as rows [T, G * K]."""
        heads, key_heads = int_value(self.heads), int_value(self.key_heads)
        by_group = (heads // key_heads, key_heads) if self.order.data == "cyclic" else (key_heads, -1)
        axis = 1 if self.order.data == "cyclic" else 2
        return x.reshape(len(x), *by_group, x.shape[-1]).sum(axis).reshape(len(x), -1)

    def immediates(self, key_dim: int, value_dim: int) -> dict[str, int | float]:
        """What the kernels take beside values, in their order."""
        return {
            "heads": int_value(self.heads),
            "key_heads": int_value(self.key_heads),
            "key_dim": key_dim,
            "value_dim": value_dim,
            "cyclic": ORDERS.index(self.order.data),
            "scale": float_value(self.scale),
        }

    @staticmethod
    def properties_of(immediates: Mapping[str, Any]) -> dict[str, Attribute]:
        """The properties of the op that makes a call with these immediates."""
        known: dict[str, Any] = {**immediates, "order": ORDERS[immediates["cyclic"]]}
        return {name: attr(known[name]) for name in PROPERTIES}


def check_heads(
    name: str, rows: Sequence[Attribute], properties: Mapping[str, Attribute], most_keys: int
) -> tuple[int, int, int]:
    """(H, K, V) of q, k, v, g and beta; raises VerifyException when they do not fit the heads."""
    q, k, v, g, beta = rows
    heads, key_heads = int_value(properties["heads"]), int_value(properties["key_heads"])
    n_rows = shape(q)[0]
    if str_value(properties["order"]) not in ORDERS:
        found = str_value(properties["order"])
        raise VerifyException(f"{name}: order is one of {', '.join(ORDERS)}, got {found}")
    if heads % key_heads or shape(q)[1] % key_heads or k != q or shape(v)[0] != n_rows or shape(v)[1] % heads:
        raise VerifyException(f"{name}: {key_heads} key heads of {q} and {k} do not fit {heads} of {v}")
    if shape(g) != (n_rows, heads) or beta != g:
        raise VerifyException(f"{name}: g and beta are [{n_rows}, {heads}], got {g} and {beta}")
    key_dim = shape(q)[1] // key_heads
    if key_dim > most_keys:
        raise VerifyException(f"{name}: a key head has at most {most_keys} columns, got {key_dim}")
    return heads, key_dim, shape(v)[1] // heads


def advance(
    state: Array, q: Array, k: Array, v: Array, g: Array, beta: Array, scale: float
) -> tuple[Array, Array, Array]:
    """One row by head: (y, the new state, d). state [H, K, V], q, k [H, K], v [H, V], g, beta [H]."""
    decayed = np.exp(g)[:, None, None] * state
    d = beta[:, None] * (v - np.einsum("hij,hi->hj", decayed, k))
    after = decayed + k[:, :, None] * d[:, None, :]
    return state.dtype.type(scale) * np.einsum("hij,hi->hj", after, q), after, d


@irdl_op_definition
class DeltaRuleOp(DeltaHeads, Updates):
    name = "ck.delta_rule"
    state = operand_def(StateType)
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    g = operand_def(TensorType)
    beta = operand_def(TensorType)
    n = operand_def(IndexType)
    pos = operand_def(IndexType)
    y = result_def(TensorType)
    after = result_def(StateType)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$state `,` $q `,` $k `,` $v `,` $g `,` $beta `,` $n `,` $pos attr-dict "
        "`:` type($state) `,` type($q) `,` type($k) `,` type($v) `,` type($g) `,` type($beta) "
        "`->` type($y) `,` type($after)"
    )

    @staticmethod
    def infer(
        state: Attribute,
        q: Attribute,
        k: Attribute,
        v: Attribute,
        g: Attribute,
        beta: Attribute,
        n: Attribute,
        pos: Attribute,
        **properties: Attribute,
    ) -> tuple[Attribute, Attribute]:
        wanted = StateType.of(*check_heads("ck.delta_rule", (q, k, v, g, beta), properties, MOST_KEYS))
        if state != wanted:
            raise VerifyException(f"ck.delta_rule: the state is {wanted}, got {state}")
        return v, state

    @property
    def updated(self) -> Sequence[tuple[SSAValue, SSAValue]]:
        return ((self.after, self.state),)

    def reference(
        self, state: Array, q: Array, k: Array, v: Array, g: Array, beta: Array, n: int, pos: int
    ) -> tuple[Array, Array]:
        """`state` is changed in place."""
        heads, scale = int_value(self.heads), float_value(self.scale)
        queries, keys, values = self.keys_by_head(q), self.keys_by_head(k), self.by_head(v, heads)
        now = state.astype(q.dtype) if pos else np.zeros(state.shape, q.dtype)
        y = np.empty((n, *values.shape[1:]), q.dtype)
        for t in range(n):
            y[t], now, _ = advance(now, queries[t], keys[t], values[t], g[t], beta[t], scale)
        state[:] = now
        return y.reshape(n, v.shape[1]), state

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_delta_rule",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        op, n = DeltaRuleOp.create(properties=DeltaHeads.properties_of(immediates)), ins[-2]
        outs[1][:n], _ = op.reference(outs[0], *ins)

    def kernels(self) -> tuple[KernelCall]:
        _, key_dim, value_dim = shape(self.state.type)
        ins = (self.q, self.k, self.v, self.g, self.beta, self.n, self.pos)
        immediates = self.immediates(key_dim, value_dim)
        return (KernelCall("ck_delta_rule", immediates, outs=(self.after, self.y), ins=ins),)

    def cost(self) -> Cost:
        heads, key_dim, value_dim = shape(self.state.type)
        return Cost(7 * shape(self.q.type)[0] * heads * key_dim * value_dim, super().cost().n_bytes)
