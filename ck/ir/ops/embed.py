"""`ck.embed`: gather the rows of a table.

    y[t] = w[tokens[t]]

tokens [T] i32 in [0, V), w !ck.q<VxDx...> -> y [T, D] f32. Kernel: runtime_c/kernels/embed, which reads the
packed weight, so that a tied head needs no second copy.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, KernelCall, KernelOp
from ck.ir.ops.linear import storage_of
from ck.ir.types import WeightType, shape, tensor


@irdl_op_definition
class EmbedOp(CkOp, KernelOp):
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

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_embed_",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        tokens, w, n = ins
        (outs[0][:n],) = EmbedOp.create().reference(tokens[:n], w)

    def kernels(self) -> tuple[KernelCall]:
        n_vocab, d_model = shape(self.w.type)
        call = {"n_vocab": n_vocab, "d": d_model}
        return (KernelCall(f"ck_embed_{storage_of(self.w.type)}", call, split="rows"),)
