"""`ck.matmul`: the two products of a linear layer's gradient.

    form "nn":  y[t, k] = sum_o a[t, o] * b[o, k]  (+ addend[t, k])      the rows' gradient
    form "tn":  y[o, k] = sum_t a[t, o] * b[t, k]  (+ addend[o, k])      the weight's, over live rows t

nn: a [T, O] f32, b !ck.q<OxKxf32, rows>, addend [T, K] f32 -> y [T, K] f32.
tn: a [T, O], b [T, K] f32, addend !ck.q<OxKxf32, rows> -> y !ck.q<OxKxf32, rows>; the addend is overwritten.
Kernel: runtime_c/kernels/matmul, whose header gives the order of sums.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from xdsl.dialects.builtin import StringAttr, TensorType
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
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import (
    Accumulates,
    AcrossRows,
    Array,
    CkOp,
    Cost,
    InPlace,
    KernelCall,
    KernelOp,
    Live,
    Product,
    WritesStates,
    str_value,
    to_bf16,
)
from ck.ir.types import WeightType, is_tensor, keeps_rows, shape, tensor, trained

FORMS = ("nn", "tn")


@irdl_op_definition
class MatmulOp(CkOp, KernelOp, Product, Accumulates, InPlace, AcrossRows):
    name = "ck.matmul"
    a = operand_def(TensorType)
    b = operand_def(TensorType | WeightType)
    addend = opt_operand_def(TensorType | WeightType)
    form = prop_def(StringAttr)
    y = result_def(TensorType | WeightType)
    traits = traits_def(WritesStates())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$a `,` $b (`add` $addend^)? attr-dict `:` functional-type(operands, results)"
    IN_PLACE_OPERAND: ClassVar[int] = 2

    @staticmethod
    def infer(
        a: Attribute, b: Attribute, addend: Attribute | None = None, *, form: Attribute
    ) -> tuple[Attribute]:
        kind = str_value(form)
        if kind not in FORMS:
            raise VerifyException(f"ck.matmul: form is one of {', '.join(FORMS)}, got {kind}")
        if kind == "nn" and not keeps_rows(b):
            raise VerifyException(f"ck.matmul nn: b is a !ck.q of layout rows, got {b}")
        depth = (shape(a)[1], shape(b)[0]) if kind == "nn" else (shape(a)[0], shape(b)[0])
        if depth[0] != depth[1] or (kind == "tn" and not is_tensor(b)):
            raise VerifyException(f"ck.matmul {kind}: {a} and {b} do not fit")
        y = tensor(shape(a)[0], shape(b)[1]) if kind == "nn" else trained(shape(a)[1], shape(b)[1])
        if addend is not None and addend != y:
            raise VerifyException(f"ck.matmul {kind}: the addend is {y}, got {addend}")
        return (y,)

    @property
    def accumulator(self) -> SSAValue | None:
        return self.addend if self.form.data == "tn" else None

    def reference(self, a: Array, b: Array, addend: Array | None = None) -> tuple[Array]:
        if self.compute == "bf16":
            a, b = to_bf16(a), to_bf16(b)
        y = a @ b if self.form.data == "nn" else a.T @ b
        return (y if addend is None else addend + y,)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_matmul_nn", "ck_matmul_tn")

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        a, b, *addend, n = ins
        if symbol.endswith("_bf16"):
            a, b = to_bf16(a), to_bf16(b)
        if symbol.startswith("ck_matmul_nn"):
            outs[0][:n] = a[:n] @ b + (addend[0][:n] if addend else 0)
        else:
            outs[0][:] = a[:n].T @ b[:n] + (outs[0] if "_add" in symbol else 0)

    def kernels(self) -> tuple[KernelCall]:
        n_out, n_in = shape(self.y.type)
        ins = [self.a, self.b]
        if self.form.data == "nn":
            n_out, n_in = shape(self.b.type)[1], shape(self.b.type)[0]
            ins += [self.addend] if self.addend is not None else []
        suffix = "" if self.addend is None else "_add"
        symbol = f"ck_matmul_{self.form.data}{suffix}_{self.compute}"
        return (KernelCall(symbol, {"n_out": n_out, "n_in": n_in}, outs=(self.y,), ins=(*ins, Live.N)),)

    def cost(self) -> Cost:
        rows, columns = shape(self.a.type)
        return Cost(2 * rows * columns * shape(self.b.type)[1], super().cost().n_bytes)
