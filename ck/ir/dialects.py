"""The dialects a ck module may use, and their registration in an xDSL context."""

from xdsl.context import Context
from xdsl.dialects import arith, builtin, func, math, memref, scf, vector
from xdsl.ir import Dialect

from ck.ir.ops import OPS
from ck.ir.rt.ops import RT_OPS
from ck.ir.rt.types import RT_TYPES
from ck.ir.types import KvType, Q8Type, Q16Type, StateType, WeightType

CK = Dialect("ck", list(OPS), [WeightType, Q16Type, Q8Type, KvType, StateType])
RT = Dialect("rt", list(RT_OPS), list(RT_TYPES))

_UPSTREAM = (builtin.Builtin, func.Func, scf.Scf, memref.MemRef, arith.Arith, math.Math, vector.Vector)


def register(context: Context) -> None:
    """Make every dialect of the pipeline known to `context`, which may know some of them already."""
    known = set(context.registered_dialect_names)
    for dialect in (*_UPSTREAM, CK, RT):
        if dialect.name not in known:
            context.register_dialect(dialect.name, lambda dialect=dialect: dialect)


def context() -> Context:
    """A fresh context that knows every dialect of the pipeline."""
    fresh = Context()
    register(fresh)
    return fresh
