"""`ck.linear`: a product with a stored weight, one output column a weight row, and an optional residual.

    y[t, j] = sum_k x[t, k] * w[j, k]  (+ residual[t, j])

x [T, K] f32, or !ck.q16<TxK> or !ck.q8<TxK> once ck-assign-layouts gave a quantised weight its operand;
w !ck.q<NxKx...>; residual [T, N] f32 -> y [T, N] f32. Kernel: runtime_c/kernels/linear, or for a trained
weight (layout rows) runtime_c/kernels/matmul; their headers give the order of sums.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import StringAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.dtypes import activation_row_bytes
from ck.ir.op import Array, CkOp, Cost, Differentiable, InPlace, KernelCall, KernelOp, Product, to_bf16
from ck.ir.ops.matmul import MatmulOp
from ck.ir.types import ActivationType, Q8Type, WeightType, keeps_rows, shape, tensor


def activations(x: Array, k: int) -> Array:
    """Quantised rows (uint8 [T, bytes]) as the f32 values they stand for; f32 rows as they are: [T, k]."""
    if x.dtype != np.uint8:
        return x
    n = 2 if x.shape[1] == activation_row_bytes(k, 2) else 1
    assert x.shape[1] == activation_row_bytes(k, n)
    planes = [x[:, p * k : (p + 1) * k].view(np.int8).astype(np.float32) for p in range(n)]
    scale = np.ascontiguousarray(x[:, n * k : n * k + k // 8]).view(np.float32)
    q = (128 * planes[0] + planes[1] if n == 2 else planes[0]).reshape(len(x), -1, 32)
    return (q * scale[:, :, None]).reshape(len(x), k)


def check_product(name: str, x: Attribute, w: Attribute) -> tuple[int, int]:
    """(T, N) of a product of rows `x` with weight `w`; raises VerifyException when they don't fit."""
    if not isinstance(w, WeightType):
        raise VerifyException(f"{name}: w is a !ck.q, got {w}")
    if shape(x)[-1] != w.get_shape()[1]:
        raise VerifyException(f"{name}: rows of x {x} have {shape(x)[-1]} columns, w is {w}")
    if isinstance(x, ActivationType) and not w.row.quantized:
        raise VerifyException(f"{name}: a float weight {w} takes f32 rows, got {x}")
    return shape(x)[0], w.get_shape()[0]


@irdl_op_definition
class LinearOp(CkOp, KernelOp, Product, InPlace, Differentiable):
    name = "ck.linear"
    x = operand_def(TensorType | ActivationType)
    w = operand_def(WeightType)
    residual = opt_operand_def(TensorType)
    y = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$x `,` $w (`add` $residual^)? attr-dict `:` functional-type(operands, results)"
    IN_PLACE_OPERAND: ClassVar[int] = 2

    @staticmethod
    def infer(x: Attribute, w: Attribute, residual: Attribute | None = None) -> tuple[Attribute]:
        rows, columns = check_product("ck.linear", x, w)
        if residual is not None and shape(residual) != (rows, columns):
            raise VerifyException(f"ck.linear: the residual is {tensor(rows, columns)}, got {residual}")
        return (tensor(rows, columns),)

    def reference(self, x: Array, w: Array, residual: Array | None = None) -> tuple[Array]:
        rows = activations(x, w.shape[1])
        y = to_bf16(rows) @ to_bf16(w).T if self.compute == "bf16" else rows @ w.T
        return (y if residual is None else residual + y,)

    def vjp(self, b: Builder, dy: SSAValue) -> Sequence[SSAValue]:
        if not keeps_rows(self.w.type):
            raise VerifyException(
                f"ck.linear: a gradient needs a weight of layout rows, %{self.w.name_hint} is {self.w.type}"
            )
        dx = b.insert(MatmulOp.build_op(dy, self.w, form="nn", hint=f"d_{self.x.name_hint or 'x'}"))
        dw = b.insert(MatmulOp.build_op(dy, self.x, form="tn", hint=f"d_{self.w.name_hint or 'w'}"))
        return (dx.y, dw.y) if self.residual is None else (dx.y, dw.y, dy)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_linear_", "ck_matmul_nt")

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        x, w, *residual, n = ins
        (outs[0][:n],) = LinearOp.create(attributes=compute_of(symbol)).reference(
            x[:n], w, *(rows[:n] for rows in residual)
        )

    def kernels(self) -> tuple[KernelCall]:
        n_out, n_in = shape(self.w.type)
        symbol = product_symbol(self.x.type, self.w.type, self.compute, add=self.residual is not None)
        return (KernelCall(symbol, {"n_out": n_out, "n_in": n_in}),)

    def cost(self) -> Cost:
        n_out, n_in = shape(self.w.type)
        return Cost(2 * shape(self.x.type)[0] * n_out * n_in, super().cost().n_bytes)


def product_symbol(x: Attribute, weight: Attribute, compute: str, add: bool = False) -> str:
    """The kernel that multiplies rows of type `x` with `weight`; with `add` the one that adds a residual."""
    suffix = "_add" if add else ""
    if keeps_rows(weight):
        return f"ck_matmul_nt{suffix}_{compute}"
    return f"ck_linear{suffix}_{kernel_types(x, weight)}"


def kernel_types(x: Attribute, weight: Attribute) -> str:
    """How a kernel's symbol ends that multiplies rows of type `x` with a packed weight."""
    return f"{storage_of(weight)}_q8" if isinstance(x, Q8Type) else storage_of(weight)


def compute_of(symbol: str) -> dict[str, Attribute]:
    """The attribute of the product that a `ck_matmul_…` symbol computes."""
    is_bf16 = symbol.startswith("ck_matmul") and symbol.endswith("_bf16")
    return {"compute": StringAttr("bf16")} if is_bf16 else {}


def storage_of(weight: Attribute) -> str:
    """The storage type's name of a weight type."""
    assert isinstance(weight, WeightType)
    return weight.storage.data


def is_quantized(weight: Attribute) -> bool:
    """Whether a weight type's products take quantised rows."""
    assert isinstance(weight, WeightType)
    return weight.row.quantized
