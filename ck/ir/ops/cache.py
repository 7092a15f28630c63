"""`ck.cache`: what a layer keeps of the positions before, by name; whoever runs the module has it in memory.

%kv = ck.cache @blk.0.kv : !ck.kv<3x4096x64xf16>
%s = ck.cache @blk.1.state : !ck.state<16x128x128xf32>
"""

from typing import Any

from xdsl.dialects.builtin import SymbolRefAttr
from xdsl.ir import Attribute
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import CkOp, Named
from ck.ir.types import CacheType, KvType, StateType


@irdl_op_definition
class CacheOp(CkOp, Named):
    name = "ck.cache"
    value = result_def(KvType | StateType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$symbol attr-dict `:` type($value)"

    @staticmethod
    def infer(*operands: Any, **properties: Any) -> tuple[Attribute, ...]:
        raise VerifyException("ck.cache: its type is declared, not inferred")

    @staticmethod
    def of(symbol: str, of: CacheType) -> "CacheOp":
        """The cache called `symbol`, of type `of`."""
        op = CacheOp.create(result_types=[of], properties={"symbol": SymbolRefAttr(symbol)})
        op.value.name_hint = symbol.replace(".", "_")
        return op

    def verify_(self) -> None:
        """The result constraint says it all."""
