"""What each arith, math, vector and memref operation becomes in C: a value's text, or a statement."""

from collections.abc import Callable, Sequence
from typing import Any

from xdsl.dialects import arith, memref, vector
from xdsl.dialects.builtin import AnyFloat, MemRefType, f32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from ck.backend.c import expressions
from ck.backend.c.expressions import Expression, Level
from ck.backend.c.spelling import base_name, float_literal, integer_literal
from ck.backend.c.values import Values
from ck.backend.operations import constant_lane, constant_number, element_of, mask_count, vector_shape
from ck.errors import InternalError

# Longest pair of operands on one line, in characters.
_OPERANDS = 76


def emit_operation(values: Values, op: Operation) -> bool:
    """Emit `op` into `values`; False when it is none of the operations known here."""
    if type(op) in expressions.ELEMENTWISE:
        a, b = _short_operands(values, op.operands[0], op.operands[1])
        values.define(op.results[0], expressions.binary(op, a, b, values.types))
    elif type(op) in expressions.LANES:
        _lanes(values, op)
    elif isinstance(op, expressions.CASTS):
        values.define(op.results[0], expressions.cast(op, values.use(op.operands[0]), values.types))
    elif type(op) in _EMIT:
        _EMIT[type(op)](values, op)
    else:
        return False
    return True


def _short_operands(values: Values, first: SSAValue, second: SSAValue) -> tuple[Expression, Expression]:
    """Two operands that fit on a line together: the longer one becomes a variable where they would not."""
    a, b = values.use(first), values.use(second)
    if len(a.text) + len(b.text) <= _OPERANDS:
        return a, b
    return (values.declare(first, a), b) if len(a.text) > len(b.text) else (a, values.declare(second, b))


def _lanes(values: Values, op: Operation) -> None:
    """An elementwise operation that C has for scalars only: a loop over the lanes of a vector."""
    result = op.results[0]
    spell = expressions.LANES[type(op)]
    shape = vector_shape(result.type)
    symbol = expressions.BOUNDS.get(type(op))
    if symbol and shape == (16, f32) and not expressions.is_number(values.use(op.operands[1])):
        _bound_of_vectors(values, op, symbol)
        return
    operands = [values.atom(value) for value in op.operands]
    splat = all(e.splat for e in operands)
    if shape is None or splat:
        e = spell(operands, values.types)
        values.define(result, Expression(e.text, e.level, shape is not None))
        return
    lanes = [e if e.splat else Expression(f"{e.text}[lane]") for e in operands]
    name = values.names.fresh(base_name(result, "v"))
    values.line(f"{values.types.value(result.type)} {name};")
    values.line(
        f"for (int lane = 0; lane < {shape[0]}; ++lane) {name}[lane] = {spell(lanes, values.types).text};"
    )
    values.bind(result, Expression(name))


def _bound_of_vectors(values: Values, op: Operation, symbol: str) -> None:
    """The greater or the smaller of two vectors, by a helper: 4 times as fast as a loop over lanes."""
    result = op.results[0]
    a, b = (values.variable(value) for value in op.operands)
    name = values.names.fresh(base_name(result, "v"))
    values.line(f"f32x16 {name};")
    values.line(f"{values.types.bound(symbol)}(&{name}, &{a}, &{b});")
    values.bind(result, Expression(name))


def _constant(values: Values, op: arith.ConstantOp) -> None:
    type = op.result.type
    element = element_of(type)
    number = constant_number(op)
    is_float = isinstance(element, AnyFloat)
    literal = float_literal(float(number), element) if is_float else integer_literal(int(number), element)
    level = Level.UNARY if literal.startswith(("-", "(")) else Level.ATOM
    values.bind(op.result, Expression(literal, level, splat=element is not type))


def _negate(values: Values, op: arith.NegfOp) -> None:
    e = values.use(op.operand)
    values.define(op.result, Expression(f"-{e.at(Level.ATOM)}", Level.UNARY, e.splat, e.reads))


def _compare(values: Values, op: arith.CmpfOp | arith.CmpiOp) -> None:
    if vector_shape(op.lhs.type):
        raise InternalError(f"C: {op.name} compares scalars, got {op.lhs.type}")
    a, b = values.atom(op.lhs), values.atom(op.rhs)
    values.define(op.result, expressions.compare(op, a, b, values.types))


def _select(values: Values, op: arith.SelectOp) -> None:
    condition, a, b = values.use(op.cond), values.whole(op.lhs), values.whole(op.rhs)
    text = f"{condition.at(Level.COMPARE)} ? {a.at(Level.COMPARE)} : {b.at(Level.COMPARE)}"
    values.define(op.result, Expression(text, Level.CONDITION, reads=condition.reads or a.reads or b.reads))


def _bitcast(values: Values, op: arith.BitcastOp | vector.BitcastOp) -> None:
    source, target = op.operands[0], op.results[0]
    e = values.use(source)
    values.define(target, expressions.bitcast(source.type, target.type, e, values.types))


def _broadcast(values: Values, op: vector.BroadcastOp) -> None:
    if vector_shape(op.source.type):
        raise InternalError(f"C: vector.broadcast takes a scalar, got {op.source.type}")
    scalar = values.atom(op.source)
    values.bind(op.vector, Expression(scalar.text, scalar.level, splat=True))


def _extract(values: Values, op: vector.ExtractOp) -> None:
    source = values.use(op.vector)
    if source.splat:
        values.define(op.result, Expression(source.text, source.level, reads=source.reads))
    else:
        values.define(op.result, Expression(f"{values.atom(op.vector).text}[{constant_lane(op)}]"))


def _insert(values: Values, op: vector.InsertOp) -> None:
    name = values.declare(op.result, values.whole(op.dest)).text
    values.line(f"{name}[{constant_lane(op)}] = {values.use(op.source).text};")


def _shuffle(values: Values, op: vector.ShuffleOp) -> None:
    shape = vector_shape(op.v1.type)
    mask: Sequence[int] = op.mask.get_values()
    if shape is None or min(mask) < 0:
        raise InternalError(f"C: vector.shuffle defines every lane of a vector, got {op}")
    n = shape[0]
    kept = next((lane for lane, source in enumerate(mask) if source != lane), n)
    if kept and len(mask) == n and list(mask[kept:]) == [n + lane for lane in range(kept, n)]:
        _replace_lanes_from(values, op, kept, n)
        return
    a = values.variable(op.v1)
    if mask[0] < n and list(mask) == [(lane + mask[0]) % n for lane in range(n)]:
        text = f"{values.types.turn(op.v1.type)}({a}, {mask[0]})"
        values.define(op.result, Expression(text))
        return
    b = values.variable(op.v2) if max(mask) >= n else a
    lanes = ", ".join(f"{a}[{lane}]" if lane < n else f"{b}[{lane - n}]" for lane in mask)
    values.define(op.result, Expression(f"({values.types.value(op.result.type)}){{{lanes}}}", Level.UNARY))


def _replace_lanes_from(values: Values, op: vector.ShuffleOp, kept: int, n: int) -> None:
    """The first `kept` lanes of one vector, the others of another."""
    other = values.use(op.v2)
    lane = other.text if other.splat else f"{values.variable(op.v2)}[lane]"
    name = values.declare(op.result, values.whole(op.v1)).text
    if kept < n:
        values.line(f"for (int lane = {kept}; lane < {n}; ++lane) {name}[lane] = {lane};")


def _element(values: Values, buffer: SSAValue, indices: Sequence[SSAValue]) -> str:
    place = "".join(f"[{values.use(index).text}]" for index in indices) or "[0]"
    return values.use(buffer).text + place


def _load(values: Values, op: memref.LoadOp) -> None:
    text = _element(values, op.memref, op.indices)
    kind = values.types.scalar(op.res.type)
    if kind == values.types.scalar(op.res.type, signed=True):
        values.define(op.res, Expression(text, reads=True))
    else:
        values.define(op.res, Expression(f"({kind}){text}", Level.UNARY, reads=True))


def _store(values: Values, op: memref.StoreOp) -> None:
    values.line(f"{_element(values, op.memref, op.indices)} = {values.use(op.value).text};")


def _vector_at(values: Values, place: str, type: Attribute) -> Expression:
    return Expression(f"*(const {values.types.unaligned(type)} *)&{place}", Level.UNARY, reads=True)


def _vector_load(values: Values, op: vector.LoadOp) -> None:
    values.define(op.result, _vector_at(values, _element(values, op.base, op.indices), op.result.type))


def _vector_store(values: Values, op: vector.StoreOp) -> None:
    place = _element(values, op.base, op.indices)
    values.line(f"*({values.types.unaligned(op.vector.type)} *)&{place} = {values.whole(op.vector).text};")


def _masked_load(values: Values, op: vector.MaskedLoadOp) -> None:
    place = _element(values, op.base, op.indices)
    count = mask_count(op.mask)
    if count is None:
        values.define(op.result, _vector_at(values, place, op.result.type))
        return
    element = values.types.scalar(element_of(op.result.type))
    name = values.declare(op.result, values.whole(op.pass_thru)).text
    values.line(f"__builtin_memcpy(&{name}, &{place}, {count} * sizeof({element}));")


def _masked_store(values: Values, op: vector.MaskedStoreOp) -> None:
    place = _element(values, op.base, op.indices)
    type = op.value_to_store.type
    count = mask_count(op.mask)
    if count is None:
        values.line(f"*({values.types.unaligned(type)} *)&{place} = {values.whole(op.value_to_store).text};")
        return
    name, element = values.variable(op.value_to_store), values.types.scalar(element_of(type))
    values.line(f"__builtin_memcpy(&{place}, &{name}, {count} * sizeof({element}));")


def _allocate(values: Values, op: memref.AllocaOp) -> None:
    type = op.memref.type
    assert isa(type, MemRefType)
    name = values.names.fresh(base_name(op.memref, "row"))
    extents = "".join(f"[{extent}]" for extent in type.get_shape()) or "[1]"
    element = values.types.scalar(type.get_element_type(), signed=True)
    values.line(f"_Alignas(64) {element} {name}{extents};")
    values.bind(op.memref, Expression(name))


def _copy(values: Values, op: memref.CopyOp) -> None:
    type = op.source.type
    assert isa(type, MemRefType)
    count = " * ".join(str(extent) for extent in type.get_shape()) or "1"
    element = values.types.scalar(type.get_element_type())
    target, source = values.use(op.destination).text, values.use(op.source).text
    values.line(f"__builtin_memcpy({target}, {source}, {count} * sizeof({element}));")


def _mask(values: Values, op: vector.CreateMaskOp) -> None:
    """A mask has no C of its own: the loads and stores that take it read its count."""


_EMIT: dict[type[Operation], Callable[[Values, Any], None]] = {
    arith.ConstantOp: _constant,
    arith.NegfOp: _negate,
    arith.CmpfOp: _compare,
    arith.CmpiOp: _compare,
    arith.SelectOp: _select,
    arith.BitcastOp: _bitcast,
    vector.BitcastOp: _bitcast,
    vector.BroadcastOp: _broadcast,
    vector.CreateMaskOp: _mask,
    vector.ExtractOp: _extract,
    vector.InsertOp: _insert,
    vector.ShuffleOp: _shuffle,
    vector.LoadOp: _vector_load,
    vector.StoreOp: _vector_store,
    vector.MaskedLoadOp: _masked_load,
    vector.MaskedStoreOp: _masked_store,
    memref.LoadOp: _load,
    memref.StoreOp: _store,
    memref.AllocaOp: _allocate,
    memref.CopyOp: _copy,
}

# Every operation that has a C of its own.
KNOWN = frozenset[type[Operation]]({*expressions.ELEMENTWISE, *expressions.LANES, *expressions.CASTS, *_EMIT})
