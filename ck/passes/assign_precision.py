"""Say in which type the factors of training's products are rounded: f32, or bf16 with sums in f32.

Weights, gradients and everything between the products stay f32 ("master weights").

Before:
    module attributes {ck.training = {dtype = "bf16"}} {
      func.func @f(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
        %w = ck.weight @up : !ck.q<16x32xf32, rows>
        %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
        func.return %y : tensor<2x16xf32>
      }
    }
After:
    module attributes {ck.training = {dtype = "bf16"}} {
      func.func @f(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
        %w = ck.weight @up : !ck.q<16x32xf32, rows>
        %y = ck.linear %x, %w {compute = "bf16"}
          : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
        func.return %y : tensor<2x16xf32>
      }
    }

Leaves products of packed weights alone: their type is the storage's.
"""

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import VerifyException

from ck.ir.check.checker import Judge
from ck.ir.check.roundings import judge_roundings
from ck.ir.check.tier import Tier
from ck.ir.functions import bodies, training_options
from ck.ir.op import Product
from ck.ir.types import WeightType

COMPUTES = ("f32", "bf16")


@dataclass(frozen=True)
class AssignPrecisionPass(ModulePass):
    """`ck-assign-precision{dtype}`; by default what the module's `ck.training` says, else f32."""

    name = "ck-assign-precision"
    TIER: ClassVar[Tier] = Tier(1e-1, "factors of products rounded to bf16, sums that cancel")
    JUDGE: ClassVar[Judge] = staticmethod(judge_roundings)
    dtype: str | None = None

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        dtype = self.dtype or training_options(op).text("dtype", "f32")
        if dtype not in COMPUTES:
            raise VerifyException(f"ck-assign-precision: dtype is one of {', '.join(COMPUTES)}, got {dtype}")
        for block in bodies(op):
            for inner in block.ops:
                if isinstance(inner, Product) and dtype != "f32" and not _is_packed(inner):
                    inner.attributes["compute"] = StringAttr(dtype)


def _is_packed(op: Operation) -> bool:
    weights = [value.type for value in op.operands if isinstance(value.type, WeightType)]
    return any(weight.layout.data != "rows" for weight in weights)
