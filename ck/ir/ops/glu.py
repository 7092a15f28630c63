"""`ck.glu`: a gated linear unit, both products and the activation in one kernel.

    y[t, j] = act(sum_k x[t, k] * gate[j, k]) * sum_k x[t, k] * up[j, k]      act = silu or gelu_tanh

x [T, K] f32, !ck.q16<TxK> or !ck.q8<TxK>; gate, up !ck.q<FxKx...> of one storage type -> y [T, F] f32.
Source: Shazeer 2020, arXiv:2002.05202. Made by ck-fuse-linear; kernel: runtime_c/kernels/linear.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import StringAttr, TensorType
from xdsl.ir import Attribute
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, Cost, KernelCall, KernelOp, Product, attr, str_value
from ck.ir.ops.gelu_tanh import SQRT_2_OVER_PI
from ck.ir.ops.linear import activations, check_product, kernel_types
from ck.ir.types import ActivationType, WeightType, shape, tensor

ACTIVATIONS = {"silu": 0, "gelu_tanh": 1}


@irdl_op_definition
class GluOp(CkOp, KernelOp, Product):
    name = "ck.glu"
    x = operand_def(TensorType | ActivationType)
    gate = operand_def(WeightType)
    up = operand_def(WeightType)
    act = prop_def(StringAttr)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x `,` $gate `,` $up attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(x: Attribute, gate: Attribute, up: Attribute, *, act: Attribute) -> tuple[Attribute]:
        rows, columns = check_product("ck.glu", x, gate)
        if gate != up:
            raise VerifyException(f"ck.glu: gate and up have one type, got {gate} and {up}")
        if str_value(act) not in ACTIVATIONS:
            raise VerifyException(f"ck.glu: act is one of {', '.join(ACTIVATIONS)}, got {str_value(act)}")
        return (tensor(rows, columns),)

    def reference(self, x: Array, gate: Array, up: Array) -> tuple[Array]:
        rows = activations(x, gate.shape[1])
        g = rows @ gate.T
        u = g if self.act.data == "silu" else 2 * SQRT_2_OVER_PI * (g + 0.044715 * g**3)
        with np.errstate(over="ignore"):
            return ((g / (1 + np.exp(-u)) * (rows @ up.T)).astype(rows.dtype),)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_glu_",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        x, gate, up, n = ins
        act = next(name for name, number in ACTIVATIONS.items() if number == immediates["act"])
        (outs[0][:n],) = GluOp.create(properties={"act": attr(act)}).reference(x[:n], gate, up)

    def kernels(self) -> tuple[KernelCall]:
        n_out, n_in = shape(self.gate.type)
        immediates = {"n_out": n_out, "n_in": n_in, "act": ACTIVATIONS[self.act.data]}
        return (KernelCall(f"ck_glu_{kernel_types(self.x.type, self.gate.type)}", immediates),)

    def cost(self) -> Cost:
        n_out, n_in = shape(self.gate.type)
        return Cost(4 * shape(self.x.type)[0] * n_out * n_in, super().cost().n_bytes)
