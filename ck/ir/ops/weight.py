"""`ck.weight`: a trained tensor of the model, by name.

    %w = ck.weight @blk.0.attn_q : !ck.q<576x576xq4_1>        a matrix [out, in], as stored or packed
    %g = ck.weight @blk.0.attn_norm : tensor<576xf32>         a vector

Names are the frontend's; who executes the module supplies the values. In training the tensors that live from
one step to the next are weights too: `grad.<name>`, `adam_m.<name>`, and the trained tensors themselves,
which ops that say so (`Accumulates`, `ck.adamw`, `ck.sgd`) write in place.
"""

from typing import Any, ClassVar

from xdsl.dialects.builtin import SymbolRefAttr, TensorType
from xdsl.ir import Attribute
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import CkOp, Named
from ck.ir.types import WeightType


@irdl_op_definition
class WeightOp(CkOp, Named):
    name = "ck.weight"
    IS_STATE: ClassVar[bool] = True
    value = result_def()
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$symbol attr-dict `:` type($value)"

    @staticmethod
    def infer(*operands: Any, **properties: Any) -> tuple[Attribute, ...]:
        raise VerifyException("ck.weight: its type is declared, not inferred")

    @staticmethod
    def of(symbol: str, of: Attribute) -> "WeightOp":
        """The weight called `symbol`, of type `of`."""
        op = WeightOp.create(result_types=[of], properties={"symbol": SymbolRefAttr(symbol)})
        op.value.name_hint = symbol.replace(".", "_")
        return op

    def verify_(self) -> None:
        if not isinstance(self.value.type, WeightType | TensorType):
            raise VerifyException(f"ck.weight: a !ck.q or a tensor, got {self.value.type}")
