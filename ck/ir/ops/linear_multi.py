"""`ck.linear_multi`: several products of the same rows, computed side by side with no barrier between them.

    y_i[t, j] = sum_k x[t, k] * w_i[j, k]

x [T, K] f32, !ck.q16<TxK> or !ck.q8<TxK>; w_i !ck.q<N_ixKx...>, storage types may differ -> y_i [T, N_i] f32.
Made by ck-fuse-linear from q, k and v; becomes one kernel call for each weight.
"""

from collections.abc import Sequence

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute
from xdsl.irdl import (
    irdl_op_definition,
    operand_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, Cost, KernelCall, KernelOp, Product
from ck.ir.ops.linear import LinearOp, check_product, is_quantized, product_symbol
from ck.ir.types import ActivationType, WeightType, shape, tensor


@irdl_op_definition
class LinearMultiOp(CkOp, KernelOp, Product):
    name = "ck.linear_multi"
    x = operand_def(TensorType | ActivationType)
    w = var_operand_def(WeightType)
    y = var_result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $w attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(x: Attribute, *w: Attribute) -> tuple[Attribute, ...]:
        if len(w) < 2:
            raise VerifyException(f"ck.linear_multi: two weights or more, got {len(w)}")
        results = tuple(tensor(*check_product("ck.linear_multi", x, weight)) for weight in w)
        if len({is_quantized(weight) for weight in w}) > 1:
            raise VerifyException(
                f"ck.linear_multi: all weights quantised or none, got {', '.join(map(str, w))}"
            )
        return results

    def reference(self, x: Array, *w: Array) -> tuple[Array, ...]:
        product = LinearOp.create(attributes=self.attributes)
        return tuple(product.reference(x, weight)[0] for weight in w)

    def kernels(self) -> Sequence[KernelCall]:
        """One call for each weight."""
        calls: list[KernelCall] = []
        for weight in self.w:
            n_out, n_in = shape(weight.type)
            symbol = product_symbol(self.x.type, weight.type, self.compute)
            calls.append(KernelCall(symbol, {"n_out": n_out, "n_in": n_in}))
        return calls

    def cost(self) -> Cost:
        rows = shape(self.x.type)[0]
        flops = sum(2 * rows * shape(weight.type)[0] * shape(weight.type)[1] for weight in self.w)
        return Cost(flops, super().cost().n_bytes)
