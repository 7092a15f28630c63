"""`ck.fused`: a group of row-wise ops that becomes one generated kernel.

    %y = ck.fused(%g, %u) {
    ^bb0(%a: tensor<512x1536xf32>, %b: tensor<512x1536xf32>):
      %s = ck.silu %a : tensor<512x1536xf32> -> tensor<512x1536xf32>
      %m = ck.mul %s, %b : tensor<512x1536xf32>, tensor<512x1536xf32> -> tensor<512x1536xf32>
      ck.yield %m : tensor<512x1536xf32>
    } : (tensor<512x1536xf32>, tensor<512x1536xf32>) -> tensor<512x1536xf32>

Every tensor result has the same number of rows; the region names nothing from outside. Made by ck-fuse-rows.
"""

from typing import Any

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, Block
from xdsl.irdl import irdl_op_definition, region_def, traits_def, var_operand_def, var_result_def
from xdsl.traits import IsTerminator, Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import CkOp, Cost, RowWise
from ck.ir.types import shape


@irdl_op_definition
class YieldOp(CkOp):
    """Ends the region of a `ck.fused`."""

    name = "ck.yield"
    values = var_operand_def()
    traits = traits_def(IsTerminator(), Pure())
    assembly_format = "$values attr-dict `:` type($values)"

    @staticmethod
    def infer(*operands: Any, **properties: Any) -> tuple[Attribute, ...]:
        return ()


@irdl_op_definition
class FusedOp(CkOp):
    name = "ck.fused"
    inputs = var_operand_def()
    outputs = var_result_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(Pure())
    assembly_format = "`(` $inputs `)` $body attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(*operands: Any, **properties: Any) -> tuple[Attribute, ...]:
        raise VerifyException("ck.fused: its results are those its region yields")

    @property
    def block(self) -> Block:
        return self.body.block

    @property
    def rows(self) -> int:
        """Rows of every result."""
        return shape(self.outputs[0].type)[0]

    def verify_(self) -> None:
        terminator = self.block.last_op
        if not isinstance(terminator, YieldOp):
            raise VerifyException("ck.fused: its region ends with ck.yield")
        yielded = [value.type for value in terminator.values]
        if yielded != [result.type for result in self.outputs]:
            raise VerifyException(
                f"ck.fused: the region yields {yielded}, the results are {self.result_types}"
            )
        for op in self.block.ops:
            if op is not terminator and not isinstance(op, RowWise):
                raise VerifyException(f"ck.fused: {op.name} is not row-wise")
            if any(
                value.owner.parent_region() is not self.body
                for value in op.operands
                if value.owner is not self.block
            ):
                raise VerifyException(f"ck.fused: {op.name} uses a value from outside the region")

    def cost(self) -> Cost:
        inner = [op.cost() for op in self.block.ops if isinstance(op, CkOp)]
        return Cost(sum(cost.flops for cost in inner), super().cost().n_bytes)
