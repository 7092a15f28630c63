"""Name the runtime kernel of every op, or say that its code is generated.

Before:
    func.func @f(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
      %w = ck.weight @up : !ck.q<16x32xf16, r16>
      %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf16, r16>) -> tensor<2x16xf32>
      func.return %y : tensor<2x16xf32>
    }
After:
    func.func @f(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
      %w = ck.weight @up : !ck.q<16x32xf16, r16>
      %y = ck.linear %x, %w {kernel = [@ck_linear_f16]}
        : (tensor<2x32xf32>, !ck.q<16x32xf16, r16>) -> tensor<2x16xf32>
      func.return %y : tensor<2x16xf32>
    }

Raises for a row-wise op outside a `ck.fused` (ck-fuse-rows has to run first) and for a weight without a
layout. Within a symbol the runtime takes the best path the processor has, so the text is every machine's.
"""

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, SymbolRefAttr
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import VerifyException

from ck.ir.check.tier import BITS, Tier
from ck.ir.functions import bodies
from ck.ir.op import KernelOp, RowWise
from ck.ir.ops.fused import FusedOp
from ck.passes.assign_layouts import require_layouts


@dataclass(frozen=True)
class SelectKernelsPass(ModulePass):
    """`ck-select-kernels{target}`"""

    name = "ck-select-kernels"
    TIER: ClassVar[Tier] = BITS
    target: str = "native"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for block in bodies(op):
            for inner in block.ops:
                _select(inner)


def _select(op: Operation) -> None:
    if isinstance(op, RowWise):
        raise VerifyException(f"{op.name} stands outside ck.fused: run ck-fuse-rows before ck-select-kernels")
    if isinstance(op, FusedOp):
        op.attributes["kernel"] = StringAttr("generated")
    if not isinstance(op, KernelOp):
        return
    require_layouts("ck-select-kernels", op)
    symbols = [SymbolRefAttr(call.symbol) for call in op.kernels()]
    op.attributes["kernel"] = ArrayAttr(symbols)
