"""`ck.embed`: gather the rows of a table.

    y[t] = w[tokens[t]]

tokens [T] i32 in [0, V), w !ck.q<VxDx...> -> y [T, D] f32. Kernel: runtime_c/kernels/embed, which reads the
packed weight, so that a tied head needs no second copy; embed_rows for a trained weight (layout rows).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import IntegerAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import (
    Accumulates,
    AcrossRows,
    Array,
    CkOp,
    Differentiable,
    KernelCall,
    KernelOp,
    Live,
    WritesStates,
    int_value,
)
from ck.ir.ops.linear import storage_of
from ck.ir.types import WeightType, keeps_rows, shape, tensor, trained


@irdl_op_definition
class EmbedOp(CkOp, KernelOp, Differentiable):
    name = "ck.embed"
    tokens = operand_def(TensorType)
    w = operand_def(WeightType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$tokens `,` $w attr-dict `:` type($tokens) `,` type($w) `->` type($y)"

    @staticmethod
    def infer(tokens: Attribute, w: Attribute) -> tuple[Attribute]:
        if len(shape(tokens)) != 1:
            raise VerifyException(f"ck.embed: tokens are [T], got {tokens}")
        return (tensor(shape(tokens)[0], shape(w)[1]),)

    def reference(self, tokens: Array, w: Array) -> tuple[Array]:
        return (w[tokens],)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue | None]:
        hint = f"d_{self.w.name_hint or 'w'}"
        bwd = EmbedBwdOp.build_op(self.tokens, dy, n_vocab=shape(self.w.type)[0], hint=hint)
        return None, b.insert(bwd).dw

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_embed_",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        tokens, w, n = ins
        (outs[0][:n],) = EmbedOp.create().reference(tokens[:n], w)

    def kernels(self) -> tuple[KernelCall]:
        n_vocab, d_model = shape(self.w.type)
        call = {"n_vocab": n_vocab, "d": d_model}
        kind = "rows" if keeps_rows(self.w.type) else storage_of(self.w.type)
        return (KernelCall(f"ck_embed_{kind}", call, split="rows"),)


@irdl_op_definition
class EmbedBwdOp(CkOp, KernelOp, Accumulates, AcrossRows):
    """The gradient of `ck.embed`: dw[v] = sum of dy[t] over live rows t with tokens[t] = v  (+ into[v]).

    tokens [T] i32, dy [T, D] f32 -> dw !ck.q<VxDxf32, rows>; `into` is overwritten. Rows are added in order.
    """

    name = "ck.embed_bwd"
    tokens = operand_def(TensorType)
    dy = operand_def(TensorType)
    into = opt_operand_def(WeightType)
    n_vocab = prop_def(IntegerAttr)
    dw = result_def(WeightType)
    traits = traits_def(WritesStates())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$tokens `,` $dy (`into` $into^)? attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(
        tokens: Attribute, dy: Attribute, into: Attribute | None = None, *, n_vocab: Attribute
    ) -> tuple[Attribute]:
        if len(shape(tokens)) != 1 or shape(dy)[0] != shape(tokens)[0]:
            raise VerifyException(f"ck.embed_bwd: tokens {tokens} do not fit rows {dy}")
        dw = trained(int_value(n_vocab), shape(dy)[1])
        if into is not None and into != dw:
            raise VerifyException(f"ck.embed_bwd: into is {dw}, got {into}")
        return (dw,)

    @property
    def accumulator(self) -> SSAValue | None:
        return self.into

    def reference(self, tokens: Array, dy: Array, into: Array | None = None) -> tuple[Array]:
        dw = np.zeros((int_value(self.n_vocab), dy.shape[1]), dy.dtype) if into is None else into.copy()
        np.add.at(dw, tokens, dy)
        return (dw,)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_embed_bwd",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        tokens, dy, n = ins
        if not immediates["add"]:
            outs[0][:] = 0
        np.add.at(outs[0], tokens[:n], dy[:n])

    def kernels(self) -> tuple[KernelCall]:
        n_vocab, d_model = shape(self.dw.type)
        immediates = {"n_vocab": n_vocab, "d": d_model, "add": int(self.into is not None)}
        ins = (self.tokens, self.dy, Live.N)
        return (KernelCall("ck_embed_bwd", immediates, outs=(self.dw,), ins=ins),)
