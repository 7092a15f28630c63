"""What the elementwise ops share: the shape rule, the cost, and their fusion into rows."""

from typing import Any, ClassVar

from xdsl.ir import Attribute
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import CkOp, Cost, RowWise
from ck.ir.types import shape


class Elementwise(CkOp, RowWise):
    """An op whose operands and result have one shape; lowered element by element."""

    FLOPS_PER_ELEMENT: ClassVar[int] = 1

    @staticmethod
    def infer(*operands: Any, **properties: Any) -> tuple[Attribute, ...]:
        first = operands[0]
        for other in operands[1:]:
            if other != first:
                raise VerifyException(f"elementwise: operands have one type, got {first} and {other}")
        if len(shape(first)) != 2:
            raise VerifyException(f"elementwise: operands are [T, D], got {first}")
        return (first,)

    def cost(self) -> Cost:
        n_elements = shape(self.results[0].type)[0] * shape(self.results[0].type)[1]
        return Cost(self.FLOPS_PER_ELEMENT * n_elements, super().cost().n_bytes)
