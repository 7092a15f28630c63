"""The key-value part of a GGUF header: scalars decoded at once, arrays checked at once and decoded on access.

Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError, UnsupportedError
from ck.frontend.gguf.cursor import Cursor, shown

Value = bool | int | float | str | list[str] | NDArray[Any]

KEY_LIMIT_BYTES = 65_535
VALUE_LIMIT_BYTES = 16 << 20
KEY_VALUE_LIMIT = 65_536
# Over all arrays of a file: 2 million strings are passed over in about 0.3 s.
STRING_LIMIT = 2 << 20

_BOOL, _STRING, _ARRAY = 7, 8, 9


@dataclass(frozen=True)
class _Scalar:
    """A numeric value type: its name in messages, its layout in the file, its element type as an array."""

    name: str
    layout: struct.Struct
    dtype: np.dtype[Any]


def _scalar(name: str, code: str, dtype: str) -> _Scalar:
    return _Scalar(name, struct.Struct("<" + code), np.dtype(dtype))


_SCALARS = {
    0: _scalar("u8", "B", "<u1"),
    1: _scalar("i8", "b", "<i1"),
    2: _scalar("u16", "H", "<u2"),
    3: _scalar("i16", "h", "<i2"),
    4: _scalar("u32", "I", "<u4"),
    5: _scalar("i32", "i", "<i4"),
    6: _scalar("f32", "f", "<f4"),
    _BOOL: _scalar("bool", "B", "<u1"),
    10: _scalar("u64", "Q", "<u8"),
    11: _scalar("i64", "q", "<i8"),
    12: _scalar("f64", "d", "<f8"),
}


@dataclass(frozen=True)
class _Array:
    """An array that was checked and not decoded: `count` elements from byte `start` of the file."""

    kind: int
    count: int
    start: int


class Metadata(Mapping[str, Value]):
    """Keys and values of one file.

    Arrays are made on access: of numbers as numpy arrays, of strings as list[str].
    The typed accessors raise MalformedError naming the key when it is missing or has another type.
    """

    def __init__(self, cursor: Cursor, count: int) -> None:
        """Read `count` pairs at the cursor."""
        self._cursor = cursor
        self._values: dict[str, Value | _Array] = {}
        self._types: dict[str, int] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._n_strings = 0
        for index in range(count):
            self._read_pair(index)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Value:
        value = self._values[key]
        return self._decode(key, value) if isinstance(value, _Array) else value

    def type_name(self, key: str) -> str:
        """What `key` is: "u32", "string", "array of 49152 strings"."""
        value = self._values[key]
        kind = self._types[key]
        name = "string" if kind == _STRING else _SCALARS[kind].name
        if isinstance(value, _Array):
            return f"array of {value.count} {name}s"
        return name

    def stored(self, key: str) -> bytes:
        """The pair of `key` as it lies in the file: the key, the value's type, the value."""
        start, end = self._spans[key]
        return self._cursor.data[start:end]

    def error(self, text: str) -> MalformedError:
        """The error `text` about this file."""
        return self._cursor.error(text)

    def unsupported(self, text: str) -> UnsupportedError:
        """The error `text` about this file, when it is well formed and ck cannot read it."""
        return UnsupportedError(f"{self._cursor.name}: {text}")

    def text(self, key: str, default: str | None = None) -> str:
        """The string `key`."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._mismatch(key, "a string")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """The bool `key`."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._mismatch(key, "a bool")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """The integer `key`, of any width."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._mismatch(key, "an integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """The float `key`, f32 or f64; any value, not-a-number included."""
        value = self._get(key, default)
        if not isinstance(value, float):
            raise self._mismatch(key, "a float")
        return value

    def strings(self, key: str) -> list[str]:
        """The array of strings `key`."""
        value = self._get(key, None)
        if not isinstance(value, list):
            raise self._mismatch(key, "an array of strings")
        return value

    def numbers(self, key: str, type_name: str) -> NDArray[Any]:
        """The array `key`, whose elements must be exactly of `type_name`, such as "f32"."""
        value = self._get(key, None)
        if not isinstance(value, np.ndarray) or _SCALARS[self._types[key]].name != type_name:
            raise self._mismatch(key, f"an array of {type_name}s")
        return value

    def _get(self, key: str, default: Value | None) -> Value:
        if key in self._values:
            return self[key]
        if default is None:
            raise self.error(f"key {key} is required, the file has none")
        return default

    def _mismatch(self, key: str, wanted: str) -> MalformedError:
        return self.error(f"key {key} must be {wanted}, found {self.type_name(key)}")

    def _read_pair(self, index: int) -> None:
        cursor = self._cursor
        start = cursor.position
        key = cursor.string(f"key {index}", KEY_LIMIT_BYTES)
        if not key:
            raise cursor.error(f"key {index} must have at least one character, found none")
        what = f"key {shown(key)}"
        if key in self._values:
            raise cursor.error(f"{what} must occur once, found it again as key {index}")
        kind = cursor.u32(f"type of {what}")
        value = self._read_array(what) if kind == _ARRAY else self._read_scalar(kind, what)
        self._values[key] = value
        self._types[key] = value.kind if isinstance(value, _Array) else kind
        self._spans[key] = start, cursor.position

    def _read_scalar(self, kind: int, what: str) -> Value:
        if kind == _STRING:
            return self._cursor.string(f"value of {what}", VALUE_LIMIT_BYTES)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise self._cursor.error(f"type of {what} must be 0 to 12, found {kind}")
        value = self._cursor.unpack(scalar.layout, f"value of {what}")
        if kind != _BOOL:
            return value
        if value not in (0, 1):
            raise self._cursor.error(f"{what} is a bool and must be 0 or 1, found {value}")
        return bool(value)

    def _read_array(self, what: str) -> _Array:
        cursor = self._cursor
        kind = cursor.u32(f"element type of {what}")
        if kind == _ARRAY:
            raise cursor.error(f"{what} must be an array of scalars or strings, found an array of arrays")
        count = cursor.u64(f"length of {what}")
        if kind == _STRING:
            return self._read_strings(count, what)
        if kind not in _SCALARS:
            raise cursor.error(f"element type of {what} must be 0 to 12, found {kind}")
        start = cursor.claim(count * _SCALARS[kind].layout.size, f"array of {what}")
        return _Array(kind, count, start)

    def _read_strings(self, count: int, what: str) -> _Array:
        cursor = self._cursor
        self._n_strings += count
        if self._n_strings > STRING_LIMIT:
            raise cursor.error(f"arrays may hold {STRING_LIMIT} strings in all, {what} brings {count}")
        start = cursor.position
        cursor.skip_strings(count, what)
        return _Array(_STRING, count, start)

    def _decode(self, key: str, array: _Array) -> list[str] | NDArray[Any]:
        if array.kind == _STRING:
            return self._cursor.strings(array.start, array.count, f"key {shown(key)}")
        values = np.frombuffer(self._cursor.data, _SCALARS[array.kind].dtype, array.count, array.start).copy()
        if array.kind != _BOOL:
            return values
        if values.size and values.max() > 1:
            raise self.error(f"bools of key {shown(key)} must be 0 or 1, found {values.max()}")
        return values.astype(np.bool_)
