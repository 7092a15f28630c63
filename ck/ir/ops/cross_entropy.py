"""`ck.cross_entropy`: the negative log-likelihood of each row's target under the head's softmax.

    l[t, v] = sum_d hidden[t, d] * w[v, d]
    nll[t]  = log(sum_v e^(l[t, v] - m)) + m - l[t, target[t]],  m = max_v l[t, v];  0 where target[t] < 0

hidden [T, D] f32, w !ck.q<VxDxf32, rows>, targets [T] i32 -> nll [T, 1], logits [C, V] f32. The product and
the loss are one op so that the logits of the whole batch never exist: `logits` is working memory for C rows
at a time, and holds nothing that may be read. Kernel: runtime_c/kernels/cross_entropy.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, Operation, SSAValue
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
    Product,
    WritesStates,
    to_bf16,
)
from ck.ir.types import WeightType, keeps_rows, shape, tensor, trained

# Rows of logits that exist at once: [512, V] is a tile for the products, and 2 MiB a thousand words.
CHUNK = 512


def chunk_rows(rows: int) -> int:
    """Rows of a batch's working memory."""
    return min(rows, CHUNK)


def check_head(name: str, hidden: Attribute, w: Attribute, targets: Attribute) -> None:
    """Raises VerifyException when rows, head and targets do not fit."""
    if not keeps_rows(w) or shape(hidden)[1] != shape(w)[1] or shape(targets) != shape(hidden)[:1]:
        raise VerifyException(
            f"{name}: rows {hidden}, head {w} (of layout rows) and targets {targets} do not fit"
        )


def _chunks(op: Operation) -> Iterator[dict[str, int]]:
    """The immediates of each chunk: its first row, its rows, V."""
    rows, n_vocab = shape(op.operands[0].type)[0], shape(op.operands[1].type)[0]
    size = chunk_rows(rows)
    for first in range(0, rows, size):
        yield {"first": first, "rows": min(size, rows - first), "n_vocab": n_vocab}


def _logits(compute: str, hidden: Array, w: Array) -> Array:
    return to_bf16(hidden) @ to_bf16(w).T if compute == "bf16" else hidden @ w.T


def _nll(logits: Array, targets: Array) -> tuple[Array, Array]:
    """nll [T, 1] and softmax [T, V]."""
    top = logits.max(-1, keepdims=True)
    e = np.exp(logits - top)
    total = e.sum(-1, keepdims=True)
    picked = np.take_along_axis(logits, np.maximum(targets, 0)[:, None], axis=1)
    nll = np.where(targets[:, None] >= 0, np.log(total) + top - picked, 0)
    return nll.astype(logits.dtype), e / total


def _live_slice(immediates: Mapping[str, Any], n: int) -> slice:
    """The live rows of a chunk."""
    first = immediates["first"]
    return slice(first, first + min(max(n - first, 0), immediates["rows"]))


@irdl_op_definition
class CrossEntropyOp(CkOp, KernelOp, Product, AcrossRows, Differentiable):
    name = "ck.cross_entropy"
    hidden = operand_def(TensorType)
    w = operand_def(WeightType)
    targets = operand_def(TensorType)
    nll = result_def(TensorType)
    logits = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$hidden `,` $w `,` $targets attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(hidden: Attribute, w: Attribute, targets: Attribute) -> tuple[Attribute, Attribute]:
        check_head("ck.cross_entropy", hidden, w, targets)
        rows = shape(hidden)[0]
        return tensor(rows, 1), tensor(chunk_rows(rows), shape(w)[0])

    def reference(self, hidden: Array, w: Array, targets: Array) -> tuple[Array, Array]:
        logits = _logits(self.compute, hidden, w)
        return _nll(logits, targets)[0], np.full(shape(self.logits.type), np.nan, hidden.dtype)

    def vjp(self, b: Builder, dnll: SSAValue, dlogits: SSAValue | None = None) -> Sequence[SSAValue | None]:
        if dlogits is not None:
            raise VerifyException(
                "ck.cross_entropy: no gradient flows through logits, and a result reads them"
            )
        bwd = b.insert(CrossEntropyBwdOp.build_op(self.hidden, self.w, self.targets, dnll, hint="nll"))
        bwd.dhidden.name_hint, bwd.dw.name_hint = "d_hidden", f"d_{self.w.name_hint or 'head'}"
        return bwd.dhidden, bwd.dw, None

    # What the gradient's chunks call beside these is emulated there.
    KERNELS: ClassVar[tuple[str, ...]] = ("ck_cross_entropy_logits", "ck_cross_entropy_rows")

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        n = ins[-1]
        live = _live_slice(immediates, n)
        count = live.stop - live.start
        if symbol.startswith("ck_cross_entropy_logits"):
            outs[0][:count] = _logits(symbol.rpartition("_")[2], ins[0][live], ins[1])
        else:
            outs[0][live] = _nll(ins[0][:count], ins[1][live])[0]

    def kernels(self) -> Sequence[KernelCall]:
        calls: list[KernelCall] = []
        for chunk in _chunks(self):
            calls.append(logits_call(self, self.logits, chunk))
            rows = (self.logits, self.targets, Live.N)
            calls.append(KernelCall("ck_cross_entropy_rows", chunk, outs=(self.nll,), ins=rows))
        return calls

    def cost(self) -> Cost:
        n_vocab, d_model = shape(self.w.type)
        return Cost(2 * shape(self.hidden.type)[0] * n_vocab * d_model, super().cost().n_bytes)


def logits_call(
    op: "CrossEntropyOp | CrossEntropyBwdOp", logits: SSAValue, chunk: dict[str, int]
) -> KernelCall:
    """The product of one chunk."""
    symbol, immediates = f"ck_cross_entropy_logits_{op.compute}", chunk | {"d": shape(op.w.type)[1]}
    return KernelCall(symbol, immediates, outs=(logits,), ins=(op.hidden, op.w, Live.N))


@irdl_op_definition
class CrossEntropyBwdOp(CkOp, KernelOp, Product, Accumulates, AcrossRows):
    """`ck.cross_entropy` and its gradient, the logits of a chunk serving both.

    dl[t, v] = (softmax_v(l[t]) - [v = target[t]]) * dnll[t],  0 where target[t] < 0
    dhidden = dl w;  dw = dl^T hidden  (+ into)

    hidden [T, D], w !ck.q<VxDxf32, rows>, targets [T] i32, dnll [T, 1] -> nll [T, 1], dhidden [T, D],
    dw !ck.q<VxDxf32, rows>, logits [C, V]; `into` is overwritten.
    """

    name = "ck.cross_entropy_bwd"
    hidden = operand_def(TensorType)
    w = operand_def(WeightType)
    targets = operand_def(TensorType)
    dnll = operand_def(TensorType)
    into = opt_operand_def(WeightType)
    nll = result_def(TensorType)
    dhidden = result_def(TensorType)
    dw = result_def(WeightType)
    logits = result_def(TensorType)
    traits = traits_def(WritesStates())
    assembly_format = (
        "$hidden `,` $w `,` $targets `,` $dnll (`into` $into^)? attr-dict "
        "`:` functional-type(operands, results)"
    )
    ACCUMULATED: ClassVar[int] = 2

    @staticmethod
    def infer(
        hidden: Attribute, w: Attribute, targets: Attribute, dnll: Attribute, into: Attribute | None = None
    ) -> tuple[Attribute, ...]:
        check_head("ck.cross_entropy_bwd", hidden, w, targets)
        rows = shape(hidden)[0]
        if dnll != tensor(rows, 1):
            raise VerifyException(f"ck.cross_entropy_bwd: dnll is {tensor(rows, 1)}, got {dnll}")
        dw = trained(*shape(w))
        if into is not None and into != dw:
            raise VerifyException(f"ck.cross_entropy_bwd: into is {dw}, got {into}")
        return tensor(rows, 1), hidden, dw, tensor(chunk_rows(rows), shape(w)[0])

    @property
    def accumulator(self) -> SSAValue | None:
        return self.into

    def reference(
        self, hidden: Array, w: Array, targets: Array, dnll: Array, into: Array | None = None
    ) -> tuple[Array, ...]:
        nll, slopes = _slopes(_logits(self.compute, hidden, w), targets, dnll)
        if self.compute == "bf16":
            hidden, w, slopes = to_bf16(hidden), to_bf16(w), to_bf16(slopes)
        dw = slopes.T @ hidden
        logits = np.full(shape(self.logits.type), np.nan, hidden.dtype)
        return nll, slopes @ w, dw if into is None else into + dw, logits

    KERNELS: ClassVar[tuple[str, ...]] = (
        "ck_cross_entropy_grad_rows",
        "ck_cross_entropy_dhidden",
        "ck_cross_entropy_dw",
    )

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        live = _live_slice(immediates, ins[-1])
        count = live.stop - live.start
        if symbol == "ck_cross_entropy_grad_rows":
            found = _slopes(outs[1][:count], ins[0][live], ins[1][live])
            outs[0][live], outs[1][:count] = found
            return
        slopes, other = ins[0][:count], ins[1]
        rounded = to_bf16 if symbol.endswith("_bf16") else np.asarray
        if symbol.startswith("ck_cross_entropy_dhidden"):
            outs[0][live] = rounded(slopes) @ rounded(other)
        else:
            dw = rounded(slopes).T @ rounded(other[live])
            outs[0][:] = dw + (outs[0] if immediates["add"] else 0)

    def kernels(self) -> Sequence[KernelCall]:
        d_model = shape(self.w.type)[1]
        calls: list[KernelCall] = []
        for chunk in _chunks(self):
            sizes = chunk | {"d": d_model}
            adds = int(self.into is not None or chunk["first"] > 0)
            calls.append(logits_call(self, self.logits, chunk))
            rows = (self.targets, self.dnll, Live.N)
            grad = KernelCall("ck_cross_entropy_grad_rows", chunk, outs=(self.nll, self.logits), ins=rows)
            back = (self.logits, self.w, Live.N)
            dhidden = KernelCall(
                f"ck_cross_entropy_dhidden_{self.compute}", sizes, outs=(self.dhidden,), ins=back
            )
            head = (self.logits, self.hidden, Live.N)
            dw_sizes = sizes | {"add": adds}
            dw = KernelCall(f"ck_cross_entropy_dw_{self.compute}", dw_sizes, outs=(self.dw,), ins=head)
            calls += [grad, dhidden, dw]
        return calls

    def cost(self) -> Cost:
        n_vocab, d_model = shape(self.w.type)
        return Cost(6 * shape(self.hidden.type)[0] * n_vocab * d_model, super().cost().n_bytes)


def _slopes(logits: Array, targets: Array, dnll: Array) -> tuple[Array, Array]:
    """nll [T, 1] and the logits' gradient [T, V]."""
    nll, softmax = _nll(logits, targets)
    softmax[np.arange(len(targets)), np.maximum(targets, 0)] -= 1
    return nll, np.where(targets[:, None] >= 0, softmax * dnll, 0).astype(logits.dtype)
