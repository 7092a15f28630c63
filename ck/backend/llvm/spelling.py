"""How types, constants and names of the IR are spelled in LLVM.

Index values are `i64`. A `vector<16xf32>` is `<16 x float>`, which LLVM splits where the machine is narrower;
buffers are `ptr`, their shapes stand where an element is addressed.
"""

import math
import re

from xdsl.dialects.builtin import (
    AnyFloat,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerType,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.utils.hints import isa

from ck.backend.names import hint_of
from ck.backend.operations import element_of, vector_shape
from ck.errors import InternalError
from ck.ir.types import is_buffer

_FLOATS: dict[type[Attribute], str] = {Float16Type: "half", Float32Type: "float", Float64Type: "double"}


def type_name(type: Attribute) -> str:
    """`float`, `i64`, `<16 x float>`, `ptr`, …"""
    shape = vector_shape(type)
    if shape is not None:
        return f"<{shape[0]} x {type_name(shape[1])}>"
    if isinstance(type, IndexType):
        return "i64"
    if isa(type, IntegerType):
        return f"i{type.width.data}"
    if is_buffer(type):
        return "ptr"
    if type.__class__ in _FLOATS:
        return _FLOATS[type.__class__]
    raise InternalError(f"LLVM: no spelling for type {type}")


def row_type(buffer: Attribute) -> str:
    """The type of what a buffer's pointer points to: a row, `[576 x float]`, or an element."""
    assert is_buffer(buffer)
    text = type_name(buffer.get_element_type())
    for extent in reversed(buffer.get_shape()[1:]):
        text = f"[{extent} x {text}]"
    return text


def element_bytes(type: Attribute) -> int:
    """The size of a scalar in memory: what a vector of them is aligned to."""
    if isinstance(type, IndexType):
        return 8
    if isa(type, IntegerType):
        return max(1, type.width.data // 8)
    assert isinstance(type, AnyFloat)
    return type.bitwidth // 8


def literal(number: int | float, type: Attribute) -> str:
    """A constant of `type`, without the type: `2.5`, `0x3FD5555560000000`, `splat (i32 127)`."""
    element = element_of(type)
    if isinstance(element, AnyFloat):
        text = _float_literal(float(number), element)
    else:
        text = _integer_literal(int(number), element)
    return text if element is type else f"splat ({type_name(element)} {text})"


def _integer_literal(value: int, type: Attribute) -> str:
    if isinstance(type, IndexType):
        return str(value)
    assert isa(type, IntegerType)
    width = type.width.data
    if width == 1:
        return "true" if value & 1 else "false"
    bits = value & ((1 << width) - 1)
    return str(bits - (1 << width) if bits >> (width - 1) else bits)


def _float_literal(value: float, type: AnyFloat) -> str:
    """Exactly the value that `type` rounds to: decimal where short and exact, else the bits of the double."""
    (value,) = type.unpack(type.pack((value,)), 1)
    if isinstance(type, Float16Type):
        return f"0xH{type.pack((value,))[::-1].hex().upper()}"
    if math.isfinite(value):
        short = f"{value:.6g}"
        if "e" not in short and float(short) == value:
            return short if "." in short else f"{short}.0"
    return f"0x{Float64Type().pack((value,))[::-1].hex().upper()}"


def base_name(value: SSAValue, fallback: str) -> str:
    """The name a value's hint asks for, dots included, without the percent sign."""
    name = re.sub(r"[^A-Za-z0-9_.]", "_", hint_of(value)).strip("_")
    if not name:
        return fallback
    return f"v_{name}" if name[0].isdigit() else name
