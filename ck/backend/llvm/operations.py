"""What each arith, math, vector and memref operation becomes in LLVM: one instruction, or a few."""

import math as numbers
from collections.abc import Callable, Sequence
from typing import Any

from xdsl.dialects import arith, math, memref, vector
from xdsl.dialects.builtin import IndexType
from xdsl.ir import Attribute, Operation, SSAValue

from ck.backend.llvm.spelling import base_name, element_bytes, literal, row_type, type_name
from ck.backend.llvm.values import Body
from ck.backend.operations import constant_lane, constant_number, element_of, mask_count, vector_shape
from ck.errors import InternalError
from ck.ir.types import is_buffer

# No fast-math flag on any of them: nothing is reassociated, contracted or assumed away.
_BINARY: dict[type[Operation], str] = {
    arith.AddfOp: "fadd",
    arith.SubfOp: "fsub",
    arith.MulfOp: "fmul",
    arith.DivfOp: "fdiv",
    arith.AddiOp: "add",
    arith.SubiOp: "sub",
    arith.MuliOp: "mul",
    arith.DivUIOp: "udiv",
    arith.RemUIOp: "urem",
    arith.DivSIOp: "sdiv",
    arith.RemSIOp: "srem",
    arith.AndIOp: "and",
    arith.OrIOp: "or",
    arith.XOrIOp: "xor",
    arith.ShLIOp: "shl",
    arith.ShRUIOp: "lshr",
    arith.ShRSIOp: "ashr",
}
# Places in a buffer do not wrap; integers do.
_COUNTS = ("add", "sub", "mul")

_INTRINSICS: dict[type[Operation], str] = {
    math.AbsFOp: "fabs",
    math.CopySignOp: "copysign",
    math.SqrtOp: "sqrt",
    math.FloorOp: "floor",
    math.CeilOp: "ceil",
    math.TruncOp: "trunc",
    math.RoundEvenOp: "rint",
    math.FmaOp: "fma",
    vector.FMAOp: "fma",
}

_CASTS: dict[type[Operation], str] = {
    arith.SIToFPOp: "sitofp",
    arith.UIToFPOp: "uitofp",
    arith.FPToSIOp: "fptosi",
    arith.FPToUIOp: "fptoui",
    arith.ExtSIOp: "sext",
    arith.ExtUIOp: "zext",
    arith.TruncIOp: "trunc",
    arith.ExtFOp: "fpext",
    arith.TruncFOp: "fptrunc",
    arith.BitcastOp: "bitcast",
    vector.BitcastOp: "bitcast",
}


def emit_operation(body: Body, op: Operation) -> bool:
    """Emit `op` into `body`; False when it is none of the operations known here."""
    kind = type(op)
    if kind in _BINARY:
        _binary(body, op, _BINARY[kind])
    elif kind in _INTRINSICS:
        _intrinsic(body, op, _INTRINSICS[kind])
    elif kind in _CASTS:
        _cast(body, _CASTS[kind], op.operands[0], op.results[0])
    elif kind in _EMIT:
        _EMIT[kind](body, op)
    else:
        return False
    return True


def _binary(body: Body, op: Operation, word: str) -> None:
    a, b = op.operands
    flag = " nsw" if word in _COUNTS and isinstance(a.type, IndexType) else ""
    body.define(op.results[0], f"{word}{flag} {body.typed(a)}, {body.use(b)}")


def _intrinsic(body: Body, op: Operation, word: str) -> None:
    type = op.results[0].type
    shape = vector_shape(type)
    suffix = {"half": "f16", "float": "f32", "double": "f64"}[type_name(element_of(type))]
    name = f"llvm.{word}.{f'v{shape[0]}' if shape else ''}{suffix}"
    body.declarations.add(name, type_name(type), ", ".join(type_name(v.type) for v in op.operands))
    arguments = ", ".join(body.typed(value) for value in op.operands)
    body.define(op.results[0], f"call {type_name(type)} @{name}({arguments})")


def _cast(body: Body, word: str, source: SSAValue, target: SSAValue) -> None:
    body.define(target, f"{word} {body.typed(source)} to {type_name(target.type)}")


def _index_cast(body: Body, op: arith.IndexCastOp) -> None:
    widths = [element_bytes(value.type) for value in (op.input, op.result)]
    if widths[0] == widths[1]:
        body.bind(op.result, body.use(op.input))
    else:
        _cast(body, "sext" if widths[0] < widths[1] else "trunc", op.input, op.result)


def _bound(body: Body, op: arith.MaximumfOp | arith.MinimumfOp) -> None:
    """Greater or smaller of two: NaN where either is NaN, the second where they are equal."""
    a, b, type = body.use(op.lhs), body.use(op.rhs), type_name(op.result.type)
    word = "gt" if isinstance(op, arith.MaximumfOp) else "lt"
    mask = type.replace(type_name(element_of(op.result.type)), "i1")
    if _is_number(op.rhs):
        first = body.let("first", f"fcmp u{word} {type} {a}, {b}")
    else:
        beyond = body.let("beyond", f"fcmp o{word} {type} {a}, {b}")
        nan = body.let("nan", f"fcmp uno {type} {a}, {a}")
        first = body.let("first", f"or {mask} {beyond}, {nan}")
    body.define(op.result, f"select {mask} {first}, {type} {a}, {type} {b}")


def _is_number(value: SSAValue) -> bool:
    """Whether a value is a constant other than NaN."""
    owner = value.owner
    if isinstance(owner, vector.BroadcastOp):
        owner = owner.source.owner
    return isinstance(owner, arith.ConstantOp) and not numbers.isnan(constant_number(owner))


def _constant(body: Body, op: arith.ConstantOp) -> None:
    body.bind(op.result, literal(constant_number(op), op.result.type))


def _negate(body: Body, op: arith.NegfOp) -> None:
    body.define(op.result, f"fneg {body.typed(op.operand)}")


def _compare(body: Body, op: arith.CmpfOp | arith.CmpiOp) -> None:
    if isinstance(op, arith.CmpfOp):
        word = f"fcmp {arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data]}"
    else:
        word = f"icmp {arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]}"
    body.define(op.result, f"{word} {body.typed(op.lhs)}, {body.use(op.rhs)}")


def _select(body: Body, op: arith.SelectOp) -> None:
    body.define(op.result, f"select {', '.join(body.typed(value) for value in op.operands)}")


def _broadcast(body: Body, op: vector.BroadcastOp) -> None:
    source, type = op.source, op.vector.type
    shape = vector_shape(type)
    if vector_shape(source.type) or shape is None:
        raise InternalError(f"LLVM: vector.broadcast takes a scalar, got {source.type}")
    if isinstance(source.owner, arith.ConstantOp):
        body.bind(op.vector, literal(constant_number(source.owner), type))
        return
    vector_type = type_name(type)
    one = body.let(
        f"{base_name(op.vector, 'v')}.lane",
        f"insertelement {vector_type} poison, {body.typed(source)}, i64 0",
    )
    lanes = f"<{shape[0]} x i32> zeroinitializer"
    body.define(op.vector, f"shufflevector {vector_type} {one}, {vector_type} poison, {lanes}")


def _extract(body: Body, op: vector.ExtractOp) -> None:
    body.define(op.result, f"extractelement {body.typed(op.vector)}, i64 {constant_lane(op)}")


def _insert(body: Body, op: vector.InsertOp) -> None:
    body.define(
        op.result, f"insertelement {body.typed(op.dest)}, {body.typed(op.source)}, i64 {constant_lane(op)}"
    )


def _shuffle(body: Body, op: vector.ShuffleOp) -> None:
    mask: Sequence[int] = op.mask.get_values()
    if min(mask) < 0:
        raise InternalError(f"LLVM: vector.shuffle defines every lane of a vector, got {op}")
    body.define(op.result, f"shufflevector {body.typed(op.v1)}, {body.typed(op.v2)}, {_lanes(mask)}")


def _lanes(mask: Sequence[int]) -> str:
    """The lanes of a shuffle; -1 for one that nothing reads."""
    lanes = ", ".join(f"i32 {lane if lane >= 0 else 'poison'}" for lane in mask)
    return f"<{len(mask)} x i32> <{lanes}>"


def _place(body: Body, buffer: SSAValue, indices: Sequence[SSAValue]) -> str:
    """The address of an element, as an operand."""
    pointer = body.use(buffer)
    if not indices:
        return f"ptr {pointer}"
    path = ", ".join(f"i64 {body.use(index)}" for index in indices)
    name = f"{base_name(buffer, 'b')}.at"
    place = body.let(name, f"getelementptr inbounds {row_type(buffer.type)}, ptr {pointer}, {path}")
    return f"ptr {place}"


def _load(body: Body, op: memref.LoadOp) -> None:
    place = _place(body, op.memref, op.indices)
    body.define(op.res, f"load {type_name(op.res.type)}, {place}")


def _store(body: Body, op: memref.StoreOp) -> None:
    place = _place(body, op.memref, op.indices)
    body.line(f"store {body.typed(op.value)}, {place}")


def _aligned(place: str, of: Attribute) -> str:
    """The end of a load or store of a vector, which may stand at any element."""
    return f"{place}, align {element_bytes(element_of(of))}"


def _vector_load(body: Body, op: vector.LoadOp) -> None:
    type = op.result.type
    place = _place(body, op.base, op.indices)
    body.define(op.result, f"load {type_name(type)}, {_aligned(place, type)}")


def _vector_store(body: Body, op: vector.StoreOp) -> None:
    place = _place(body, op.base, op.indices)
    body.line(f"store {body.typed(op.vector)}, {_aligned(place, op.vector.type)}")


def _masked_load(body: Body, op: vector.MaskedLoadOp) -> None:
    """The live lanes as a shorter vector, then the others from beside it: no lane more is read."""
    count, type = mask_count(op.mask), op.result.type
    place = _place(body, op.base, op.indices)
    if count is None:
        body.define(op.result, f"load {type_name(type)}, {_aligned(place, type)}")
    elif count == 0:
        body.bind(op.result, body.use(op.pass_thru))
    else:
        shape = vector_shape(type)
        assert shape
        n, part = shape[0], f"<{count} x {type_name(shape[1])}>"
        base = base_name(op.result, "v")
        live = body.let(f"{base}.live", f"load {part}, {_aligned(place, type)}")
        spread = [*range(count), *[-1] * (n - count)]
        wide = body.let(f"{base}.wide", f"shufflevector {part} {live}, {part} poison, {_lanes(spread)}")
        kept = [*range(count), *range(n + count, 2 * n)]
        body.define(
            op.result,
            f"shufflevector {type_name(type)} {wide}, {body.typed(op.pass_thru)}, {_lanes(kept)}",
        )


def _masked_store(body: Body, op: vector.MaskedStoreOp) -> None:
    """The live lanes as a shorter vector: no lane more is written."""
    count, value = mask_count(op.mask), op.value_to_store
    type = type_name(value.type)
    place = _place(body, op.base, op.indices)
    if count is None:
        body.line(f"store {body.typed(value)}, {_aligned(place, value.type)}")
    elif count:
        part = f"<{count} x {type_name(element_of(value.type))}>"
        lanes = _lanes(range(count))
        live = body.let(
            f"{base_name(value, 'v')}.live", f"shufflevector {body.typed(value)}, {type} poison, {lanes}"
        )
        body.line(f"store {part} {live}, {_aligned(place, value.type)}")


def _allocate(body: Body, op: memref.AllocaOp) -> None:
    type = op.memref.type
    assert is_buffer(type)
    shape = type.get_shape()
    whole = f"[{shape[0]} x {row_type(type)}]" if shape else row_type(type)
    body.allocate(op.memref, whole)


def _copy(body: Body, op: memref.CopyOp) -> None:
    type = op.source.type
    assert is_buffer(type)
    n_bytes = numbers.prod(type.get_shape()) * element_bytes(type.get_element_type())
    name = "llvm.memcpy.p0.p0.i64"
    body.declarations.add(name, "void", "ptr, ptr, i64, i1")
    target, source = body.use(op.destination), body.use(op.source)
    body.line(f"call void @{name}(ptr {target}, ptr {source}, i64 {n_bytes}, i1 false)")


def _mask(body: Body, op: vector.CreateMaskOp) -> None:
    """A mask has no LLVM of its own: the loads and stores that take it read its count."""


_EMIT: dict[type[Operation], Callable[[Body, Any], None]] = {
    arith.MaximumfOp: _bound,
    arith.MinimumfOp: _bound,
    arith.IndexCastOp: _index_cast,
    arith.ConstantOp: _constant,
    arith.NegfOp: _negate,
    arith.CmpfOp: _compare,
    arith.CmpiOp: _compare,
    arith.SelectOp: _select,
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

# Every operation that has an LLVM of its own.
KNOWN = frozenset[type[Operation]]({*_BINARY, *_INTRINSICS, *_CASTS, *_EMIT})
