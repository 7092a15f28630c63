"""Give every stored weight the packed layout of the target, and its quantised products their int8 rows.

`r16` (16 output rows interleaved) is the layout of every target so far: AVX-512 takes a vector whole, AVX2 in
halves, portable C byte by byte. A quantised weight is multiplied with quantised rows; products of the same
rows share them. Rows have 15 bits in two planes, or with `activations = "q8"` 8 bits in one.

Before:
    func.func @f(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
      %w = ck.weight @up : !ck.q<16x32xq8_0>
      %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
      func.return %y : tensor<2x16xf32>
    }
After:
    func.func @f(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
      %w = ck.weight @up : !ck.q<16x32xq8_0, r16>
      %q = ck.quantize_rows %x : tensor<2x32xf32> -> !ck.q16<2x32>
      %y = ck.linear %q, %w : (!ck.q16<2x32>, !ck.q<16x32xq8_0, r16>) -> tensor<2x16xf32>
      func.return %y : tensor<2x16xf32>
    }

Leaves f32, f16 and bf16 weights with f32 rows, and weights that already have a layout as they are.
"""

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr, TensorType
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.exceptions import VerifyException

from ck.dtypes import ACTIVATIONS
from ck.ir.check.tier import FINE_STEP, Tier
from ck.ir.functions import bodies
from ck.ir.op import Product
from ck.ir.ops.quantize_rows import QuantizeRowsOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import WeightType

# The module's attribute that says how products of quantised weights take their rows.
ACTIVATIONS_ATTRIBUTE = "ck.activations"


@dataclass(frozen=True)
class AssignLayoutsPass(ModulePass):
    """`ck-assign-layouts{target activations}`: `target` names the machine; all of them use `r16`.

    `activations` is by default what the module's `ck.activations` says, else q16.
    """

    name = "ck-assign-layouts"
    # Numbers of 8 bits lie 128 times as far apart as those of 15, in squares 16384 times.
    TIER: ClassVar[Tier] = Tier(
        1e-5, "activations of 15 bits, or of 8", coarse=2e-1, step=FINE_STEP, specials=False
    )
    target: str = "native"
    activations: str | None = None

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        said = op.attributes.get(ACTIVATIONS_ATTRIBUTE)
        wanted = self.activations or (said.data if isinstance(said, StringAttr) else "q16")
        if wanted not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise VerifyException(f"ck-assign-layouts: activations is one of {known}, got {wanted}")
        for block in bodies(op):
            _pack_weights(block)
            _quantize_rows(block, wanted)


def require_layouts(name: str, op: Operation) -> None:
    """Raise VerifyException when a weight of `op` has no layout, which the pass `name` needs."""
    for operand in op.operands:
        if isinstance(operand.type, WeightType) and not operand.type.layout.data:
            raise VerifyException(
                f"{op.name}: {operand.type} has no layout: run ck-assign-layouts before {name}"
            )


def _pack_weights(block: Block) -> None:
    for op in list(block.ops):
        if not isinstance(op, WeightOp):
            continue
        of = op.value.type
        if isinstance(of, WeightType) and not of.layout.data:
            packed = WeightType.of(of.get_shape(), of.storage.data, "r16")
            Rewriter.replace_value_with_new_type(op.value, packed)


def _quantize_rows(block: Block, wanted: str) -> None:
    quantized: dict[SSAValue, SSAValue] = {}
    for op in list(block.ops):
        if not isinstance(op, Product):
            continue
        x, weight = op.operands[0], op.operands[1].type
        if not isinstance(x.type, TensorType) or not isinstance(weight, WeightType):
            continue
        if not weight.row.quantized:
            continue
        if x not in quantized:
            made = QuantizeRowsOp.to(x, wanted, hint=f"{x.name_hint or 'x'}_{wanted}")
            Rewriter.insert_op(made, InsertPoint.before(op))
            quantized[x] = made.y
        op.operands[0] = quantized[x]
