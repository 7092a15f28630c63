"""`ck.accumulate`: add a gradient to what is kept of the steps before: into + g, written to `into`.

into, g of one type, [D] f32 or !ck.q<OxKxf32, rows> -> that type. Ops that add in their own kernel
(`Accumulates`) take the place of this one. Kernel: runtime_c/kernels/optimizer.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, Cost, KernelCall, KernelOp, Updates, WritesStates
from ck.ir.types import WeightType, shape


@irdl_op_definition
class AccumulateOp(CkOp, KernelOp, Updates):
    name = "ck.accumulate"
    into = operand_def(TensorType | WeightType)
    g = operand_def(TensorType | WeightType)
    y = result_def(TensorType | WeightType)
    traits = traits_def(WritesStates())
    assembly_format = "$into `,` $g attr-dict `:` type($into) `,` type($g) `->` type($y)"

    @staticmethod
    def infer(into: Attribute, g: Attribute) -> tuple[Attribute]:
        if into != g:
            raise VerifyException(f"ck.accumulate: operands have one type, got {into} and {g}")
        return (into,)

    @property
    def updated(self) -> Sequence[tuple[SSAValue, SSAValue]]:
        return ((self.y, self.into),)

    def reference(self, into: Array, g: Array) -> tuple[Array]:
        return (into + g,)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_accumulate",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        outs[0][:] += ins[0]

    def kernels(self) -> tuple[KernelCall]:
        n_elements = math.prod(shape(self.into.type))
        return (KernelCall("ck_accumulate", {"n_elements": n_elements}, outs=(self.y,), ins=(self.g,)),)

    def cost(self) -> Cost:
        return Cost(math.prod(shape(self.into.type)), super().cost().n_bytes)
