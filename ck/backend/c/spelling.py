"""How types, constants and names of the IR are spelled in C.

Integers are signless in the IR and unsigned in C, so that they wrap; an operation that reads a sign casts.
Index values are `int64_t`. A `vector<16xf32>` is `f32x16`, a GNU vector type the C compiler splits where the
machine is narrower; `f32x16_u` is the same value at any element's address.
"""

import math
import re
from dataclasses import dataclass, field

from xdsl.dialects.builtin import (
    AnyFloat,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerType,
    MemRefType,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.utils.hints import isa

from ck.backend.names import hint_of
from ck.backend.operations import vector_shape
from ck.errors import InternalError

_FLOATS: dict[type[Attribute], tuple[str, str]] = {
    Float16Type: ("_Float16", "f16"),
    Float32Type: ("float", "f32"),
    Float64Type: ("double", "f64"),
}

_HELPERS = {
    "bits_of": "static inline uint32_t bits_of(float value) {\n"
    "    uint32_t bits;\n"
    "    __builtin_memcpy(&bits, &value, sizeof bits);\n"
    "    return bits;\n"
    "}\n",
    # NaN where either is NaN; the second of two equal values, which matters for zeros.
    "max_of": "static inline float max_of(float a, float b) { return a > b || a != a ? a : b; }\n",
    "min_of": "static inline float min_of(float a, float b) { return a < b || a != a ? a : b; }\n",
    "float_of": "static inline float float_of(uint32_t bits) {\n"
    "    float value;\n"
    "    __builtin_memcpy(&value, &bits, sizeof value);\n"
    "    return value;\n"
    "}\n",
}

# What the C compiler compares at once: it takes larger vectors apart lane by lane.
_PIECE = """#if defined(__AVX512F__)
#define PIECE 64
#elif defined(__AVX__)
#define PIECE 32
#else
#define PIECE 16
#endif
typedef float f32_piece __attribute__((vector_size(PIECE), may_alias));
typedef int32_t i32_piece __attribute__((vector_size(PIECE), may_alias));
"""
_BOUND = """static inline void {name}(f32x16 *to, const f32x16 *a, const f32x16 *b) {{
    for (unsigned p = 0; p < sizeof *to / PIECE; ++p) {{
        f32_piece x = ((const f32_piece *)a)[p], y = ((const f32_piece *)b)[p];
        i32_piece first = (x {symbol} y) | (x != x);
        ((f32_piece *)to)[p] = (f32_piece)(((i32_piece)x & first) | ((i32_piece)y & ~first));
    }}
}}
"""

# Words a value may not be called: C's own, and those the emitter writes itself.
_RESERVED = frozenset(
    word
    for line in (
        "auto break case char const continue default do double else enum extern float for goto if inline int",
        "long register restrict return short signed sizeof static struct switch typedef union unsigned void",
        "volatile while asm typeof bool true false main",
        "lane bits_of float_of max_of min_of PIECE f32_piece i32_piece",
    )
    for word in line.split()
)
_TYPE_NAME = re.compile(r"(turn_|max_|min_)?[fiu]\d+x\d+(_u)?|u?int\d+_t")


@dataclass
class Types:
    """The spelling of types, and the typedefs and helpers that have been asked for so far."""

    vectors: set[str] = field(default_factory=set[str])
    helpers: dict[str, str] = field(default_factory=dict[str, str])

    def scalar(self, type: Attribute, *, signed: bool = False) -> str:
        """`float`, `int64_t`, `uint32_t`, …; `signed` asks for the signed integer of the same width."""
        if isinstance(type, IndexType):
            return "int64_t"
        if isa(type, IntegerType):
            width = type.width.data
            if width == 1:
                return "_Bool"
            if width in (8, 16, 32, 64):
                return f"{'' if signed else 'u'}int{width}_t"
        if type.__class__ in _FLOATS:
            return _FLOATS[type.__class__][0]
        raise InternalError(f"C: no spelling for type {type}")

    def value(self, type: Attribute, *, signed: bool = False) -> str:
        """The type of a scalar or vector value."""
        shape = vector_shape(type)
        if shape is None:
            return self.scalar(type, signed=signed)
        length, element = shape
        if isa(element, IntegerType):
            name = f"{'i' if signed else 'u'}{element.width.data}x{length}"
        else:
            self.scalar(element)
            name = f"{_FLOATS[element.__class__][1]}x{length}"
        self.vectors.add(name)
        return name

    def unaligned(self, type: Attribute) -> str:
        """The type through which a vector is read from or written to any element's address."""
        name = f"{self.value(type)}_u"
        self.vectors.add(name)
        return name

    def helper(self, name: str) -> str:
        """Ask for one of the helper functions, and name it."""
        self.helpers[name] = _HELPERS[name]
        return name

    def bound(self, symbol: str) -> str:
        """Ask for `max_f32x16` (`>`) or `min_f32x16` (`<`): what max_of and min_of do, on every lane."""
        name = "max_f32x16" if symbol == ">" else "min_f32x16"
        self.vectors.add("f32x16")
        self.helpers["PIECE"] = _PIECE
        self.helpers[name] = _BOUND.format(name=name, symbol=symbol)
        return name

    def turn(self, type: Attribute) -> str:
        """Ask for the macro that turns a vector's lanes: lane l of `turn_f32x16(v, n)` is v[(l + n) % 16]."""
        shape = vector_shape(type)
        assert shape
        name = f"turn_{self.value(type)}"
        lanes = [f"v[({lane} + n) % {shape[0]}]" for lane in range(shape[0])]
        rows = [", ".join(lanes[start : start + 4]) for start in range(0, shape[0], 4)]
        body = ", \\\n        ".join(rows)
        self.helpers[name] = f"#define {name}(v, n) (({self.value(type)}){{ \\\n        {body}}})\n"
        return name

    def parameter(self, type: Attribute, name: str, *, constant: bool, restrict: bool) -> str:
        """A parameter's declaration; a buffer is a pointer to its first row."""
        if not isa(type, MemRefType):
            return f"{self.scalar(type)} {name}"
        qualifier = "restrict " if restrict else ""
        row = "".join(f"[{extent}]" for extent in type.get_shape()[1:])
        pointer = f"(*{qualifier}{name}){row}" if row else f"*{qualifier}{name}"
        return f"{'const ' if constant else ''}{self.scalar(type.get_element_type(), signed=True)} {pointer}"

    def prelude(self) -> str:
        """Includes, typedefs and helpers for everything spelled so far."""
        lines = ["#include <stdint.h>\n"]
        for name in sorted(self.vectors, key=_vector_order):
            lines.append(_typedef(name))
        return "".join(lines) + "".join("\n" + text for text in self.helpers.values())


def _vector_order(name: str) -> tuple[str, int, bool]:
    kind, length = name.removesuffix("_u").split("x")
    return kind, -int(length), name.endswith("_u")


def _typedef(name: str) -> str:
    kind, length = name.removesuffix("_u").split("x")
    element = {"f16": "_Float16", "f32": "float", "f64": "double"}.get(kind)
    if element is None:
        element = f"{'u' if kind[0] == 'u' else ''}int{kind[1:]}_t"
    n_bytes = int(kind[1:]) // 8
    where = f", aligned({n_bytes}), may_alias" if name.endswith("_u") else ""
    return f"typedef {element} {name} __attribute__((vector_size({n_bytes * int(length)}){where}));\n"


def float_literal(value: float, type: AnyFloat) -> str:
    """A literal with exactly the value that `type` rounds to: decimal where short and exact, else hex."""
    (value,) = type.unpack(type.pack((value,)), 1)
    if isinstance(type, Float16Type):
        return f"(_Float16){float_literal(value, Float32Type())}"
    suffix = "" if isinstance(type, Float64Type) else "f"
    if math.isnan(value):
        return f'__builtin_nan{suffix}("")'
    if math.isinf(value):
        return f"{'-' if value < 0 else ''}__builtin_inf{suffix}()"
    short = f"{value:.6g}"
    if "e" not in short and float(short) == value:
        return f"{short}{'' if '.' in short else '.0'}{suffix}"
    mantissa, exponent = value.hex().split("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}{suffix}"


def integer_literal(value: int, type: Attribute) -> str:
    """A literal with these bits: decimal for indices, unsigned for integers, hexadecimal when large."""
    if isinstance(type, IndexType):
        return str(value)
    assert isa(type, IntegerType)
    width = type.width.data
    if width == 1:
        return str(value & 1)
    bits = value & ((1 << width) - 1)
    suffix = "ull" if width == 64 else "u"
    return f"{bits:#x}{suffix}" if bits > 0xFFFF else f"{bits}{suffix}"


def base_name(value: SSAValue, fallback: str) -> str:
    """The C identifier a value's name hint asks for."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", hint_of(value)).strip("_")
    if not name:
        return fallback
    if name[0].isdigit() or name in _RESERVED or _TYPE_NAME.fullmatch(name):
        return f"v_{name}"
    return name
