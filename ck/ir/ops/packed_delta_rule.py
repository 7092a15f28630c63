"""`ck.packed_delta_rule`: `ck.delta_rule` of each of a batch of packed documents, from a state of zeros.

q, k [T, G * K], v [T, H * V], g, beta [T, H] f32, starts [T] i32 -> y [T, H * V] f32, and for the gradient
states [B, H, K * V] f32, B = ceil(T / 64): at t // 64 the state before row t, for every row t that is 64,
128, .. rows behind the first one of its document; else zeros. starts[t] is the first row of row t's document:
it never falls, and starts[t] <= t. K and V are at most 128.
Source: Yang et al. 2024, arXiv:2412.06464, section 3.3 (the chunked form, by which the gradient goes), and
arXiv:2406.06484 (of the rule without decay). Kernel: runtime_c/kernels/packed_delta_rule.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import AcrossRows, Array, Cost, Differentiable, KernelCall, Live, float_value, int_value
from ck.ir.ops.delta_rule import DeltaHeads, advance, check_heads
from ck.ir.types import shape, tensor

BORDER = 64
# The kernel of the gradient keeps several matrices of so many rows and columns on its stack.
WIDEST = 128


def check_documents(
    name: str, rows: Sequence[Attribute], starts: Attribute, properties: Mapping[str, Attribute]
) -> Attribute:
    """The type of the states; raises VerifyException when rows, heads and documents do not fit."""
    heads, key_dim, value_dim = check_heads(name, rows, properties, WIDEST)
    if value_dim > WIDEST:
        raise VerifyException(f"{name}: a value head has at most {WIDEST} columns, got {value_dim}")
    n_rows = shape(rows[0])[0]
    if shape(starts) != (n_rows,):
        raise VerifyException(f"{name}: starts are [{n_rows}], got {starts}")
    return tensor(-(-n_rows // BORDER), heads, key_dim * value_dim)


class _PackedRule(DeltaHeads, AcrossRows):
    """What the op and its gradient share."""

    def _dims(self) -> tuple[int, int]:
        """(K, V) of the operands' types."""
        columns = (shape(self.operands[place].type)[1] for place in (0, 2))
        key_columns, value_columns = columns
        return key_columns // int_value(self.key_heads), value_columns // int_value(self.heads)

    def cost(self) -> Cost:
        key_dim, value_dim = self._dims()
        rows, heads = shape(self.operands[0].type)[0], int_value(self.heads)
        return Cost((len(self.results) * 4 - 1) * rows * heads * key_dim * value_dim, super().cost().n_bytes)


@irdl_op_definition
class PackedDeltaRuleOp(_PackedRule, Differentiable):
    name = "ck.packed_delta_rule"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    g = operand_def(TensorType)
    beta = operand_def(TensorType)
    starts = operand_def(TensorType)
    y = result_def(TensorType)
    states = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$q `,` $k `,` $v `,` $g `,` $beta `,` $starts attr-dict `:` functional-type(operands, results)"
    )

    @staticmethod
    def infer(
        q: Attribute,
        k: Attribute,
        v: Attribute,
        g: Attribute,
        beta: Attribute,
        starts: Attribute,
        **properties: Attribute,
    ) -> tuple[Attribute, Attribute]:
        return v, check_documents("ck.packed_delta_rule", (q, k, v, g, beta), starts, properties)

    def reference(
        self, q: Array, k: Array, v: Array, g: Array, beta: Array, starts: Array
    ) -> tuple[Array, Array]:
        heads, scale, n = int_value(self.heads), float_value(self.scale), len(q)
        queries, keys, values = self.keys_by_head(q), self.keys_by_head(k), self.by_head(v, heads)
        now = np.zeros((heads, keys.shape[2], values.shape[2]), q.dtype)
        states = np.zeros((-(-n // BORDER), heads, now[0].size), q.dtype)
        y = np.empty(values.shape, q.dtype)
        for t in range(n):
            if t == starts[t]:
                now = np.zeros_like(now)
            elif (t - starts[t]) % BORDER == 0:
                states[t // BORDER] = now.reshape(heads, -1)
            y[t], now, _ = advance(now, queries[t], keys[t], values[t], g[t], beta[t], scale)
        return y.reshape(v.shape), states

    def vjp(self, b: Builder, dy: SSAValue, dstates: SSAValue | None = None) -> Sequence[SSAValue | None]:
        """Of y alone: the states are for the gradient itself to read."""
        if dstates is not None:
            raise VerifyException(
                "ck.packed_delta_rule: no gradient flows through the states, and a result reads them"
            )
        operands = (self.q, self.k, self.v, self.g, self.beta, self.starts, self.states, dy)
        bwd = b.insert(PackedDeltaRuleBwdOp.build_op(*operands, hint="d_q", **self.properties))
        for result, name in zip(bwd.results, ("d_q", "d_k", "d_v", "d_g", "d_beta"), strict=True):
            result.name_hint = name
        return *bwd.results, None

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_packed_delta_rule",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        *rows, n = ins
        op = PackedDeltaRuleOp.create(properties=DeltaHeads.properties_of(immediates))
        outs[0][:n], outs[1][: -(-n // BORDER)] = op.reference(*(x[:n] for x in rows))

    def kernels(self) -> tuple[KernelCall]:
        ins = (self.q, self.k, self.v, self.g, self.beta, self.starts, Live.N)
        immediates = self.immediates(*self._dims())
        return (KernelCall("ck_packed_delta_rule", immediates, outs=(self.y, self.states), ins=ins),)


@irdl_op_definition
class PackedDeltaRuleBwdOp(_PackedRule):
    """The gradient of `ck.packed_delta_rule`, from the last row of a document to the first.

    With S_t the state after row t, d_t as in the rule, a_t = e^g[t] and G the gradient of S_t so far:

        G += q (x) scale dy;  dq = scale S_t dy;  dd = G^T k;  e = beta dd
        dk = G d_t - a_t S_(t-1) e;  dv = e;  dbeta = dd . (v - a_t S_(t-1)^T k)
        dg = a_t (G . S_(t-1)) - e . (a_t S_(t-1)^T k);  then G = a_t (G - k (x) e), of S_(t-1)
    """

    name = "ck.packed_delta_rule_bwd"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    g = operand_def(TensorType)
    beta = operand_def(TensorType)
    starts = operand_def(TensorType)
    states = operand_def(TensorType)
    dy = operand_def(TensorType)
    dq = result_def(TensorType)
    dk = result_def(TensorType)
    dv = result_def(TensorType)
    dg = result_def(TensorType)
    dbeta = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$q `,` $k `,` $v `,` $g `,` $beta `,` $starts `,` $states `,` $dy attr-dict "
        "`:` functional-type(operands, results)"
    )

    @staticmethod
    def infer(
        q: Attribute,
        k: Attribute,
        v: Attribute,
        g: Attribute,
        beta: Attribute,
        starts: Attribute,
        states: Attribute,
        dy: Attribute,
        **properties: Attribute,
    ) -> tuple[Attribute, ...]:
        rows = (q, k, v, g, beta)
        wanted = check_documents("ck.packed_delta_rule_bwd", rows, starts, properties)
        if states != wanted or dy != v:
            raise VerifyException(
                f"ck.packed_delta_rule_bwd: states are {wanted} and dy is {v}, got {states} and {dy}"
            )
        return rows

    def reference(
        self,
        q: Array,
        k: Array,
        v: Array,
        g: Array,
        beta: Array,
        starts: Array,
        states: Array,
        dy: Array,
    ) -> tuple[Array, ...]:
        heads = int_value(self.heads)
        rows = (self.keys_by_head(q), self.keys_by_head(k), self.by_head(v, heads), g, beta)
        slopes = self.by_head(dy, heads) * q.dtype.type(float_value(self.scale))
        before = self._states_before(rows, starts)
        pull = np.zeros_like(before[0])
        found = [np.empty_like(x) for x in rows]
        for t in reversed(range(len(q))):
            if t + 1 == len(q) or starts[t + 1] == t + 1:
                pull = np.zeros_like(pull)
            parts, pull = _back_one([x[t] for x in rows], before[t], slopes[t], pull)
            for whole, part in zip(found, parts, strict=True):
                whole[t] = part
        dq, dk, dv, dg, dbeta = found
        return self.keys_of_heads(dq), self.keys_of_heads(dk), dv.reshape(v.shape), dg, dbeta

    def _states_before(self, rows: Sequence[Array], starts: Array) -> list[Array]:
        """The state in front of every row: [H, K, V]."""
        queries, keys, values, g, beta = rows
        found: list[Array] = []
        now = np.zeros((*keys.shape[1:], values.shape[2]), keys.dtype)
        for t in range(len(keys)):
            found.append(np.zeros_like(now) if t == starts[t] else now)
            _, now, _ = advance(found[-1], queries[t], keys[t], values[t], g[t], beta[t], 1.0)
        return found

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_packed_delta_rule_bwd",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        q, k, v, g, beta, states, dy, starts, n = ins
        op = PackedDeltaRuleBwdOp.create(properties=DeltaHeads.properties_of(immediates))
        q, k, v, g, beta, starts, dy = (x[:n] for x in (q, k, v, g, beta, starts, dy))
        for out, rows in zip(outs, op.reference(q, k, v, g, beta, starts, states, dy), strict=True):
            out[:n] = rows

    def kernels(self) -> tuple[KernelCall]:
        ins = (self.q, self.k, self.v, self.g, self.beta, self.states, self.dy, self.starts, Live.N)
        immediates = self.immediates(*self._dims())
        return (KernelCall("ck_packed_delta_rule_bwd", immediates, outs=tuple(self.results), ins=ins),)


def _back_one(
    row: Sequence[Array], before: Array, slope: Array, pull: Array
) -> tuple[tuple[Array, ...], Array]:
    """Gradients of one row's q, k, v, g and beta by head, and of the state before it."""
    q, k, v, g, beta = row
    _, after, d = advance(before, q, k, v, g, beta, 1.0)
    decayed = np.exp(g)[:, None, None] * before
    miss = v - np.einsum("hij,hi->hj", decayed, k)
    pull = pull + q[:, :, None] * slope[:, None, :]
    dd = np.einsum("hij,hi->hj", pull, k)
    e = beta[:, None] * dd
    dq = np.einsum("hij,hj->hi", after, slope)
    dk = np.einsum("hij,hj->hi", pull, d) - np.einsum("hij,hj->hi", decayed, e)
    reached = pull - k[:, :, None] * e[:, None, :]
    dg = (reached * decayed).sum((1, 2))
    return (dq, dk, e, dg, (dd * miss).sum(1)), np.exp(g)[:, None, None] * reached
