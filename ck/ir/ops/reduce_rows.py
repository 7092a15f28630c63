"""`ck.reduce_rows`: the sum of all live rows: the gradient of a vector that every row shares.

    y[d] = sum_r x[r, d]  (+ into[d])

x [R, D] f32, R a multiple of the token capacity T -> y [D] f32; `into` [D] f32 is overwritten.
Kernel: runtime_c/kernels/reduce_rows, whose header gives the order of sums.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from xdsl.dialects.builtin import IntegerAttr, TensorType
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
    KernelCall,
    KernelOp,
    Live,
    WritesStates,
    int_value,
)
from ck.ir.types import shape, tensor


@irdl_op_definition
class ReduceRowsOp(CkOp, KernelOp, Accumulates, AcrossRows):
    name = "ck.reduce_rows"
    x = operand_def(TensorType)
    into = opt_operand_def(TensorType)
    rows_per_token = prop_def(IntegerAttr)
    y = result_def(TensorType)
    traits = traits_def(WritesStates())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x (`into` $into^)? attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(x: Attribute, into: Attribute | None = None, *, rows_per_token: Attribute) -> tuple[Attribute]:
        if len(shape(x)) != 2 or shape(x)[0] % int_value(rows_per_token):
            raise VerifyException(f"ck.reduce_rows: {int_value(rows_per_token)} rows a token, got {x}")
        y = tensor(shape(x)[1])
        if into is not None and into != y:
            raise VerifyException(f"ck.reduce_rows: into is {y}, got {into}")
        return (y,)

    @property
    def accumulator(self) -> SSAValue | None:
        return self.into

    def reference(self, x: Array, into: Array | None = None) -> tuple[Array]:
        y = x.sum(axis=0)
        return (y if into is None else into + y,)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_reduce_rows",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        x, n = ins
        total = x[: n * immediates["rows_per_token"]].sum(axis=0)
        outs[0][:] = total + (outs[0] if immediates["add"] else 0)

    def kernels(self) -> tuple[KernelCall]:
        add = int(self.into is not None)
        immediates = {
            "rows_per_token": int_value(self.rows_per_token),
            "d": shape(self.x.type)[1],
            "add": add,
        }
        return (KernelCall("ck_reduce_rows", immediates, outs=(self.y,), ins=(self.x, Live.N)),)

    def cost(self) -> Cost:
        rows, width = shape(self.x.type)
        return Cost(rows * width, super().cost().n_bytes)
