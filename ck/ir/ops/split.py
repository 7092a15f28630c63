"""`ck.split`: cut the columns of every row into parts that follow each other.

    part i of a row is its columns sizes[0] + .. + sizes[i - 1] + [0, sizes[i])

x [T, D] f32, sizes adding up to D -> a [T, sizes[i]] f32 for each. Parts that nobody reads cost nothing.
The gradient's kernel: runtime_c/kernels/split.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
from xdsl.builder import Builder
from xdsl.dialects.builtin import I64, DenseArrayBase, IntegerAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.functions import rows_per_token
from ck.ir.op import (
    Array,
    CkOp,
    Cost,
    Differentiable,
    KernelCall,
    KernelOp,
    Live,
    RowWise,
    int_value,
    ints_value,
)
from ck.ir.rows import RowBuilder, RowValue
from ck.ir.types import shape, tensor


def begins_of(sizes: Sequence[int]) -> list[int]:
    """The first column of each part, and the one after the last."""
    return [0, *accumulate(sizes)]


@irdl_op_definition
class SplitOp(CkOp, RowWise, Differentiable):
    name = "ck.split"
    x = operand_def(TensorType)
    sizes = prop_def(DenseArrayBase[I64])
    parts = var_result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$x attr-dict `:` type($x) `->` type($parts)"

    @staticmethod
    def infer(x: Attribute, *, sizes: Attribute) -> tuple[Attribute, ...]:
        widths = ints_value(sizes)
        if len(shape(x)) != 2 or sum(widths) != shape(x)[1] or min(widths, default=0) < 1:
            raise VerifyException(f"ck.split: sizes {widths} are not those of the columns of {x}")
        return tuple(tensor(shape(x)[0], width) for width in widths)

    def reference(self, x: Array) -> tuple[Array, ...]:
        begins = begins_of(ints_value(self.sizes))[1:-1]
        return tuple(np.ascontiguousarray(part) for part in np.split(x, begins, axis=1))

    def lower_row(self, b: RowBuilder, x: RowValue) -> tuple[RowValue, ...]:
        return tuple(b.shifted(x, first) for first in begins_of(ints_value(self.sizes))[:-1])

    def vjp(self, b: Builder, *cotangents: SSAValue | None) -> Sequence[SSAValue]:
        given = tuple(place for place, part in enumerate(cotangents) if part is not None)
        rows = rows_per_token(self, self.x)
        parts = [part for part in cotangents if part is not None]
        made = SplitBwdOp.build_op(*parts, sizes=self.sizes, given=given, rows_per_token=rows, hint="d_split")
        return (b.insert(made).dx,)


@irdl_op_definition
class SplitBwdOp(CkOp, KernelOp):
    """dx holds the parts dy[i] side by side, part i at place given[i] of `sizes`, and zeros elsewhere."""

    name = "ck.split_bwd"
    parts = var_operand_def(TensorType)
    sizes = prop_def(DenseArrayBase[I64])
    given = prop_def(DenseArrayBase[I64])
    rows_per_token = prop_def(IntegerAttr)
    dx = result_def(TensorType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$parts attr-dict `:` type($parts) `->` type($dx)"

    @staticmethod
    def infer(
        *parts: Attribute, sizes: Attribute, given: Attribute, rows_per_token: Attribute
    ) -> tuple[Attribute]:
        widths, places = ints_value(sizes), ints_value(given)
        rows = shape(parts[0])[0] if parts else 0
        known = list(places) == sorted({*places} & {*range(len(widths))})
        if not parts or not known or list(parts) != [tensor(rows, widths[place]) for place in places]:
            found = ", ".join(map(str, parts))
            raise VerifyException(f"ck.split_bwd: {found} are not parts {places} of rows of sizes {widths}")
        if rows % int_value(rows_per_token):
            raise VerifyException(f"ck.split_bwd: {int_value(rows_per_token)} rows a token, got {parts[0]}")
        return (tensor(rows, sum(widths)),)

    def reference(self, *parts: Array) -> tuple[Array]:
        widths = ints_value(self.sizes)
        dx = np.zeros((len(parts[0]), sum(widths)), parts[0].dtype)
        for place, part in zip(ints_value(self.given), parts, strict=True):
            first = begins_of(widths)[place]
            dx[:, first : first + widths[place]] = part
        return (dx,)

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_split_bwd",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        (part, n), (dx,) = ins, outs
        rows, first, width = n * immediates["rows_per_token"], immediates["first"], immediates["width"]
        dx[:rows, first : first + width] = part[:rows]
        dx[:rows, first + width : first + width + immediates["zeros"]] = 0
        dx[:rows, first - immediates["before"] : first] = 0

    def kernels(self) -> Sequence[KernelCall]:
        widths, places = ints_value(self.sizes), ints_value(self.given)
        begins = begins_of(widths)
        calls: list[KernelCall] = []
        for number, (place, part) in enumerate(zip(places, self.parts, strict=True)):
            end = begins[place + 1]
            until = begins[places[number + 1]] if number + 1 < len(places) else begins[-1]
            immediates = {
                "rows_per_token": int_value(self.rows_per_token),
                "d": begins[-1],
                "before": begins[place] if number == 0 else 0,
                "first": begins[place],
                "width": widths[place],
                "zeros": until - end,
            }
            calls.append(KernelCall("ck_split_bwd", immediates, "rows", (self.dx,), (part, Live.N)))
        return calls

    def cost(self) -> Cost:
        return Cost(0, super().cost().n_bytes)
