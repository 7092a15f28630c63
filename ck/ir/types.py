"""The types of the `ck` dialect that are not builtin: stored weights, quantised activations, caches.

!ck.q<3072x1024xq4_k>          a weight [out, in] as its file stores it
!ck.q<3072x1024xq4_k, r16>     the same weight packed for the target
!ck.q<3072x1024xf32, rows>     a weight that is trained: row-major, where products and optimizer find it
!ck.q16<512x1024>               activations [T, K] of 15 bits, row by row (runtime_c/blocks.h draws a row)
!ck.q8<512x1024>                the same of 8 bits
!ck.kv<3x4096x64xf16>          one layer's KV cache [kv heads, capacity, head width]
!ck.state<16x128x128xf32>      a recurrent state: all that a layer keeps of the positions before, zeros at 0
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Self, TypeAlias, TypeGuard

from xdsl.dialects.builtin import (
    ArrayAttr,
    Float16Type,
    Float32Type,
    IntAttr,
    MemRefType,
    StringAttr,
    TensorType,
    f16,
    f32,
)
from xdsl.ir import Attribute, ParametrizedAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from ck.dtypes import BY_NAME, StorageType, activation_row_bytes

Shape = ArrayAttr[IntAttr]


def _shape_attr(shape: Sequence[int]) -> Shape:
    return ArrayAttr([IntAttr(n) for n in shape])


def _parse_shape_and_name(parser: AttrParser) -> tuple[list[int], str]:
    """Parse `3072x1024xq4_k`: sizes, then an element name."""
    sizes: list[int] = []
    while (size := parser.parse_optional_integer(allow_boolean=False, allow_negative=False)) is not None:
        sizes.append(size)
        parser.parse_shape_delimiter()
    return sizes, parser.parse_identifier()


@irdl_attr_definition
class WeightType(ParametrizedAttribute, TypeAttribute):
    """`!ck.q<NxKxSTORAGE[, LAYOUT]>`: a stored weight [out, in]."""

    name = "ck.q"
    sizes: Shape
    storage: StringAttr
    layout: StringAttr

    @staticmethod
    def of(shape: Sequence[int], storage: str, layout: str = "") -> "WeightType":
        return WeightType(_shape_attr(shape), StringAttr(storage), StringAttr(layout))

    @property
    def row(self) -> StorageType:
        """The storage type's table row."""
        return BY_NAME[self.storage.data]

    def get_shape(self) -> tuple[int, ...]:
        return tuple(n.data for n in self.sizes)

    def verify(self) -> None:
        if self.storage.data not in BY_NAME:
            raise VerifyException(f"!ck.q: storage is one of {', '.join(BY_NAME)}, got {self.storage.data}")
        if len(self.sizes) != 2:
            raise VerifyException(f"!ck.q: a weight is [out, in], got {len(self.sizes)} sizes")
        columns, row = self.get_shape()[1], self.row
        if columns % row.block:
            raise VerifyException(f"!ck.q: rows of {row.name} are multiples of {row.block}, got {columns}")
        if self.layout.data not in ("", "r16", "rows"):
            raise VerifyException(f"!ck.q: layout is r16, rows or absent, got {self.layout.data}")
        if self.layout.data == "rows" and row.name != "f32":
            raise VerifyException(f"!ck.q: layout rows holds f32, got {row.name}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            sizes, storage = _parse_shape_and_name(parser)
            layout = parser.parse_identifier() if parser.parse_optional_punctuation(",") else ""
        return [_shape_attr(sizes), StringAttr(storage), StringAttr(layout)]

    def print_parameters(self, printer: Printer) -> None:
        sizes = "x".join(map(str, self.get_shape()))
        layout = f", {self.layout.data}" if self.layout.data else ""
        printer.print_string(f"<{sizes}x{self.storage.data}{layout}>")


class _QuantizedRows(ParametrizedAttribute, TypeAttribute):
    """Activations in blocks of 32 with an f32 scale each, in `PLANES` planes of int8."""

    PLANES: ClassVar[int]
    sizes: Shape

    @classmethod
    def of(cls, shape: Sequence[int]) -> Self:
        return cls(_shape_attr(shape))

    def get_shape(self) -> tuple[int, ...]:
        return tuple(n.data for n in self.sizes)

    @property
    def row_bytes(self) -> int:
        return activation_row_bytes(self.get_shape()[1], self.PLANES)

    def verify(self) -> None:
        if len(self.sizes) != 2 or self.get_shape()[1] % 32:
            raise VerifyException(f"!{self.name}: rows are multiples of 32, got {self.get_shape()}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return [_shape_attr(parser.parse_dimension_list())]

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{'x'.join(map(str, self.get_shape()))}>")


@irdl_attr_definition
class Q16Type(_QuantizedRows):
    """`!ck.q16<TxK>`: activations quantised to 15 bits, in a high and a low plane."""

    name = "ck.q16"
    PLANES: ClassVar[int] = 2


@irdl_attr_definition
class Q8Type(_QuantizedRows):
    """`!ck.q8<TxK>`: activations quantised to 8 bits, in one plane."""

    name = "ck.q8"
    PLANES: ClassVar[int] = 1


# What a product with a quantised weight takes.
ActivationType: TypeAlias = Q16Type | Q8Type


@irdl_attr_definition
class KvType(ParametrizedAttribute, TypeAttribute):
    """`!ck.kv<HxCxKxDTYPE>`: the KV cache of one layer, capacity C positions, a multiple of 64."""

    name = "ck.kv"
    sizes: Shape
    dtype: Float16Type | Float32Type

    @staticmethod
    def of(kv_heads: int, capacity: int, head_dim: int, dtype: str) -> "KvType":
        return KvType(_shape_attr((kv_heads, capacity, head_dim)), {"f16": f16, "f32": f32}[dtype])

    def get_shape(self) -> tuple[int, ...]:
        return tuple(n.data for n in self.sizes)

    @property
    def dtype_name(self) -> str:
        return "f16" if isinstance(self.dtype, Float16Type) else "f32"

    @property
    def n_bytes(self) -> int:
        """Bytes of keys and values together."""
        heads, capacity, head_dim = self.get_shape()
        return 2 * heads * capacity * head_dim * (2 if self.dtype_name == "f16" else 4)

    def verify(self) -> None:
        sizes = self.get_shape()
        if len(sizes) != 3 or sizes[1] % 64:
            raise VerifyException(
                f"!ck.kv: [kv heads, capacity, head width] with capacity a multiple of 64, got {sizes}"
            )

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            sizes, dtype = _parse_shape_and_name(parser)
        if dtype not in ("f16", "f32"):
            parser.raise_error(f"!ck.kv holds f16 or f32, got {dtype}")
        return [_shape_attr(sizes), {"f16": f16, "f32": f32}[dtype]]

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{'x'.join(map(str, self.get_shape()))}x{self.dtype_name}>")


@irdl_attr_definition
class StateType(ParametrizedAttribute, TypeAttribute):
    """`!ck.state<...xf32>`: what a recurrent layer keeps, row-major. At position 0 it counts as zeros."""

    name = "ck.state"
    sizes: Shape

    @staticmethod
    def of(*sizes: int) -> "StateType":
        return StateType(_shape_attr(sizes))

    def get_shape(self) -> tuple[int, ...]:
        return tuple(n.data for n in self.sizes)

    @property
    def n_bytes(self) -> int:
        return 4 * math.prod(self.get_shape())

    def verify(self) -> None:
        if min(self.get_shape(), default=0) < 1:
            raise VerifyException(f"!ck.state: sizes of at least 1, got {self.get_shape()}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            sizes, dtype = _parse_shape_and_name(parser)
        if dtype != "f32":
            parser.raise_error(f"!ck.state holds f32, got {dtype}")
        return [_shape_attr(sizes)]

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{'x'.join(map(str, self.get_shape()))}xf32>")


# What whoever runs a program keeps between its calls.
CacheType: TypeAlias = KvType | StateType


def shape(of: Attribute) -> tuple[int, ...]:
    """Sizes of a tensor, buffer, weight, activation or cache type; raises VerifyException for any other."""
    if is_tensor(of) or is_buffer(of):
        return of.get_shape()
    if isinstance(of, WeightType | ActivationType | CacheType):
        return of.get_shape()
    raise VerifyException(f"required a type with sizes, got {of}")


def is_tensor(of: Attribute) -> TypeGuard[TensorType[Attribute]]:
    """Whether `of` is a tensor type, of any element."""
    return isinstance(of, TensorType)


def is_buffer(of: Attribute) -> TypeGuard[MemRefType[Attribute]]:
    """Whether `of` is a memref type, of any element."""
    return isinstance(of, MemRefType)


def keeps_rows(of: Attribute) -> bool:
    """Whether a type is a row-major weight, as trained matrices are."""
    return isinstance(of, WeightType) and of.layout.data == "rows"


def trained(*sizes: int) -> Attribute:
    """The type of a trained tensor, its gradient and its moments: a vector, or a row-major f32 matrix."""
    return tensor(*sizes) if len(sizes) == 1 else WeightType.of(sizes, "f32", "rows")


def tensor(*sizes: int) -> TensorType[Attribute]:
    """`tensor<...xf32>`."""
    return TensorType(f32, sizes)
