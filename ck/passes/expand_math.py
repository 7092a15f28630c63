"""Replace exp, tanh, erf, log, sin, cos and rsqrt by our own polynomials, so that no result depends on libm.

Before:
    func.func @f(%x: f32) -> f32 {
      %y = math.rsqrt %x : f32
      func.return %y : f32
    }
After:
    func.func @f(%x: f32) -> f32 {
      %0 = arith.constant 1.000000e+00 : f32
      %root = math.sqrt %x : f32
      %y = arith.divf %0, %root : f32
      func.return %y : f32
    }

Works on f32 and on vectors of f32. The constants go to the top of the function, each once. `polynomials`
holds the formulas and says how exact they are. Leaves other types alone, and what machines compute exactly
(sqrt, absf, fma, floor, …): those are the backends'.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from xdsl.builder import Builder
from xdsl.context import Context
from xdsl.dialects import arith, func, math, vector
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, ModuleOp, VectorType, f32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.hints import isa

from ck.ir.check.tier import Tier
from ck.passes import polynomials
from ck.passes.polynomials import Arithmetic

_FUNCTIONS: dict[type[Operation], Callable[[Arithmetic, SSAValue], SSAValue]] = {
    math.ExpOp: polynomials.exp,
    math.TanhOp: polynomials.tanh,
    math.ErfOp: polynomials.erf,
    math.LogOp: polynomials.log,
    math.SinOp: polynomials.sin,
    math.CosOp: polynomials.cos,
    math.RsqrtOp: polynomials.rsqrt,
}


def _is_f32(type: Attribute) -> bool:
    return type == f32 or (isa(type, VectorType[Attribute]) and type.element_type == f32)


class _Constants:
    """Constants at the top of one function, each value once."""

    def __init__(self, function: func.FuncOp) -> None:
        self._block = function.body.block
        self._last: Operation | None = None
        self._known: dict[tuple[str, Attribute], SSAValue] = {}

    def get(self, value: FloatAttr | IntegerAttr, type: Attribute) -> SSAValue:
        # By text: NaN does not equal itself, and 0 equals -0.
        key = (str(value), type)
        if key not in self._known:
            if isa(type, VectorType[Attribute]):
                op = vector.BroadcastOp(self.get(value, type.element_type), type)
            else:
                op = arith.ConstantOp(value)
            start = InsertPoint.at_start(self._block)
            Rewriter.insert_op(op, InsertPoint.after(self._last) if self._last else start)
            self._last = op
            self._known[key] = op.results[0]
        return self._known[key]


def _expand(function: func.FuncOp) -> None:
    found = [op for op in function.walk() if type(op) in _FUNCTIONS and _is_f32(op.results[0].type)]
    if not found:
        return
    constants = _Constants(function)
    for op in found:
        arithmetic = Arithmetic(Builder(InsertPoint.before(op)), op.results[0].type, constants.get)
        value = _FUNCTIONS[type(op)](arithmetic, op.operands[0])
        value.name_hint = op.results[0].name_hint or value.name_hint
        op.results[0].replace_all_uses_with(value)
        op.detach()
        op.erase()


@dataclass(frozen=True)
class ExpandMathPass(ModulePass):
    """See the module's docstring."""

    name = "ck-expand-math"
    TIER: ClassVar[Tier] = Tier(
        1e-9, "polynomials in place of exact functions", quantized=1e-5, rounded=1e-2, coarse=1e-2
    )

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.walk():
            if isinstance(function, func.FuncOp) and function.body.blocks:
                _expand(function)
