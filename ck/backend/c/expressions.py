"""C expressions for single operations: what an arith, math or vector op says about its operands, in C.

An operation is one of three kinds: elementwise with a C operator, which GNU vectors share with scalars
(`ELEMENTWISE`, `CASTS`); elementwise without one, spelled for one lane and looped over (`LANES`); or one that
`operations` spells. Association is the IR's: an operand is parenthesised unless C would group it so anyway.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from xdsl.dialects import arith, math, vector
from xdsl.dialects.builtin import Float32Type, IndexType, IntegerType
from xdsl.ir import Attribute, Operation
from xdsl.utils.hints import isa

from ck.backend.c.spelling import Types
from ck.backend.operations import element_of
from ck.errors import InternalError


class Level(IntEnum):
    """How tightly an expression's outermost operator binds."""

    CONDITION = 0
    BITS = 1
    COMPARE = 2
    ADD = 3
    MULTIPLY = 4
    UNARY = 5
    ATOM = 6


@dataclass(frozen=True)
class Expression:
    """C text for a value.

    splat  the text is one scalar that stands for a vector with that value in every lane
    reads  the text reads memory, so it may not move past a write
    """

    text: str
    level: Level = Level.ATOM
    splat: bool = False
    reads: bool = False

    def at(self, level: Level) -> str:
        """The text, in parentheses where an operator of `level` would take it apart."""
        return self.text if self.level >= level else f"({self.text})"


# Operator, the level of the result, and the levels its operands need.
_Binary = tuple[str, Level, Level, Level]
_BITS = (Level.BITS, Level.UNARY, Level.UNARY)

ELEMENTWISE: dict[type[Operation], _Binary] = {
    arith.AddfOp: ("+", Level.ADD, Level.ADD, Level.MULTIPLY),
    arith.AddiOp: ("+", Level.ADD, Level.ADD, Level.MULTIPLY),
    arith.SubfOp: ("-", Level.ADD, Level.ADD, Level.MULTIPLY),
    arith.SubiOp: ("-", Level.ADD, Level.ADD, Level.MULTIPLY),
    arith.MulfOp: ("*", Level.MULTIPLY, Level.MULTIPLY, Level.UNARY),
    arith.MuliOp: ("*", Level.MULTIPLY, Level.MULTIPLY, Level.UNARY),
    arith.DivfOp: ("/", Level.MULTIPLY, Level.MULTIPLY, Level.UNARY),
    arith.DivUIOp: ("/", Level.MULTIPLY, Level.MULTIPLY, Level.UNARY),
    arith.RemUIOp: ("%", Level.MULTIPLY, Level.MULTIPLY, Level.UNARY),
    arith.AndIOp: ("&", *_BITS),
    arith.OrIOp: ("|", *_BITS),
    arith.XOrIOp: ("^", *_BITS),
    arith.ShLIOp: ("<<", *_BITS),
    arith.ShRUIOp: (">>", *_BITS),
    arith.ShRSIOp: (">>", *_BITS),
    arith.DivSIOp: ("/", Level.MULTIPLY, Level.MULTIPLY, Level.UNARY),
    arith.RemSIOp: ("%", Level.MULTIPLY, Level.MULTIPLY, Level.UNARY),
}
_SIGNED = (arith.ShRSIOp, arith.DivSIOp, arith.RemSIOp)
_UNSIGNED = (arith.DivUIOp, arith.RemUIOp, arith.ShRUIOp)


def binary(op: Operation, a: Expression, b: Expression, types: Types) -> Expression:
    """`a op b` for an operation of `ELEMENTWISE`; one of the two may be a splat, both give a splat."""
    symbol, level, left, right = ELEMENTWISE[type(op)]
    result = op.results[0].type
    element = element_of(result)
    if isa(element, IntegerType) and element.width.data in (8, 16):
        raise InternalError(f"C: arithmetic is on 32 or 64 bits, got {op.name} on {result}")
    splat = a.splat and b.splat
    if splat:
        result = element
    signed = isinstance(op, _SIGNED)
    wrong_sign = isinstance(element, IndexType) and isinstance(op, _UNSIGNED)
    if not wrong_sign and not (signed and not isinstance(result, IndexType)):
        return Expression(f"{a.at(left)} {symbol} {b.at(right)}", level, splat, a.reads or b.reads)
    if wrong_sign:
        inner, outer = "uint64_t", "int64_t"
    else:
        inner, outer = types.value(result, signed=True), types.value(result)
    # A count needs no sign, so a shift's right operand stays as it is.
    cast_b = b.at(Level.UNARY) if symbol == ">>" or b.splat else f"({inner}){b.at(Level.UNARY)}"
    cast_a = a.at(Level.UNARY).removeprefix(f"({outer})" if outer in types.vectors else " ")
    inner_text = f"({inner}){cast_a} {symbol} {cast_b}"
    return Expression(f"({outer})({inner_text})", Level.UNARY, splat, a.reads or b.reads)


_Spell = Callable[[Sequence[Expression], Types], Expression]


def _call(name: str) -> _Spell:
    return lambda operands, types: Expression(f"{name}({', '.join(e.text for e in operands)})")


def is_number(e: Expression) -> bool:
    """Whether the text is a literal, other than an infinity or NaN."""
    return e.text.lstrip("-")[0].isdigit()


def _bound(helper: str, beyond: str) -> _Spell:
    """Greater or smaller of two floats: NaN where either is NaN, the second where they are equal."""

    def spell(operands: Sequence[Expression], types: Types) -> Expression:
        a, b = (e.at(Level.UNARY) for e in operands)
        if is_number(operands[1]):
            return Expression(f"{a} {beyond} {b} ? {b} : {a}", Level.CONDITION)
        return Expression(f"{types.helper(helper)}({a}, {b})")

    return spell


LANES: dict[type[Operation], _Spell] = {
    arith.MaximumfOp: _bound("max_of", "<="),
    arith.MinimumfOp: _bound("min_of", ">="),
    math.AbsFOp: _call("__builtin_fabsf"),
    math.CopySignOp: _call("__builtin_copysignf"),
    math.SqrtOp: _call("__builtin_sqrtf"),
    math.FloorOp: _call("__builtin_floorf"),
    math.CeilOp: _call("__builtin_ceilf"),
    math.TruncOp: _call("__builtin_truncf"),
    math.RoundEvenOp: _call("__builtin_rintf"),
    math.FmaOp: _call("__builtin_fmaf"),
    vector.FMAOp: _call("__builtin_fmaf"),
}

BOUNDS: dict[type[Operation], str] = {arith.MaximumfOp: ">", arith.MinimumfOp: "<"}

_FLOAT_COMPARE = {
    "oeq": "{a} == {b}",
    "ogt": "{a} > {b}",
    "oge": "{a} >= {b}",
    "olt": "{a} < {b}",
    "ole": "{a} <= {b}",
    "one": "{a} < {b} || {a} > {b}",
    "ord": "{a} == {a} && {b} == {b}",
    "ueq": "!({a} < {b} || {a} > {b})",
    "ugt": "!({a} <= {b})",
    "uge": "!({a} < {b})",
    "ult": "!({a} >= {b})",
    "ule": "!({a} > {b})",
    "une": "{a} != {b}",
    "uno": "{a} != {a} || {b} != {b}",
}
_INTEGER_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def compare(op: Operation, a: Expression, b: Expression, types: Types) -> Expression:
    """A scalar comparison, true as 1; ordered predicates are false on NaN."""
    reads = a.reads or b.reads
    if isinstance(op, arith.CmpfOp):
        name = arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data]
        if name in ("true", "false"):
            return Expression(str(int(name == "true")))
        text = _FLOAT_COMPARE[name].format(a=a.at(Level.ADD), b=b.at(Level.ADD))
        return Expression(text, _compare_level(text), reads=reads)
    assert isinstance(op, arith.CmpiOp)
    name = arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]
    symbol = _INTEGER_COMPARE[name[-2:]]
    cast = ""
    if name[0] == "s" and not isinstance(op.lhs.type, IndexType):
        cast = f"({types.scalar(op.lhs.type, signed=True)})"
    elif name[0] == "u" and isinstance(op.lhs.type, IndexType):
        cast = "(uint64_t)"
    needed = Level.UNARY if cast else Level.ADD
    return Expression(f"{cast}{a.at(needed)} {symbol} {cast}{b.at(needed)}", Level.COMPARE, reads=reads)


def _compare_level(text: str) -> Level:
    if text.startswith("!"):
        return Level.UNARY
    return Level.CONDITION if "&&" in text or "||" in text else Level.COMPARE


_SIGNED_CASTS = (arith.SIToFPOp, arith.ExtSIOp)
_UNSIGNED_CASTS = (arith.UIToFPOp, arith.ExtUIOp, arith.TruncIOp, arith.ExtFOp, arith.TruncFOp)
CASTS = (*_SIGNED_CASTS, *_UNSIGNED_CASTS, arith.FPToSIOp, arith.FPToUIOp, arith.IndexCastOp)


def cast(op: Operation, a: Expression, types: Types) -> Expression:
    """A scalar conversion, by value."""
    source, target = op.operands[0].type, op.results[0].type
    text = a.at(Level.UNARY)
    to = types.scalar(target)
    if isinstance(op, (*_SIGNED_CASTS, arith.IndexCastOp)) and isa(source, IntegerType):
        text = f"({types.scalar(source, signed=True)}){text}"
    if isinstance(op, (arith.ExtSIOp, arith.FPToSIOp)):
        text = f"({types.scalar(target, signed=True)}){text}"
    return Expression(f"({to}){text}", Level.UNARY, reads=a.reads)


def bitcast(source: Attribute, target: Attribute, a: Expression, types: Types) -> Expression:
    """The same bits as another type: a cast between GNU vectors, a helper between scalars."""
    if a.splat or types.value(source) == types.scalar(element_of(source)):
        source, target = element_of(source), element_of(target)
        return _scalar_bitcast(source, target, a, types)
    return Expression(f"({types.value(target)}){a.at(Level.UNARY)}", Level.UNARY, reads=a.reads)


def _scalar_bitcast(source: Attribute, target: Attribute, a: Expression, types: Types) -> Expression:
    kinds = (isinstance(source, Float32Type), isinstance(target, Float32Type))
    if kinds == (True, False) and types.scalar(target) == "uint32_t":
        helper = "bits_of"
    elif kinds == (False, True) and types.scalar(source) == "uint32_t":
        helper = "float_of"
    elif source == target:
        return a
    else:
        raise InternalError(f"C: a scalar bitcast is between f32 and i32, got {source} to {target}")
    return Expression(f"{types.helper(helper)}({a.text})", splat=a.splat, reads=a.reads)
