"""A GGUF file as loose parts, so that any of them can be made wrong: nothing here checks anything."""

import struct
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field

U8, I8, U16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def u16(value: int) -> bytes:
    """2 bytes."""
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    """4 bytes."""
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    """8 bytes."""
    return struct.pack("<Q", value)


def f32(value: float) -> bytes:
    """4 bytes."""
    return struct.pack("<f", value)


def i64(value: int) -> bytes:
    """8 bytes, signed."""
    return struct.pack("<q", value)


def f64(value: float) -> bytes:
    """8 bytes."""
    return struct.pack("<d", value)


def text(value: str | bytes) -> bytes:
    """A length and bytes."""
    data = value.encode() if isinstance(value, str) else value
    return u64(len(data)) + data


def texts(values: Iterable[str | bytes]) -> bytes:
    """The payload of an array of strings."""
    items = [text(value) for value in values]
    return u32(STRING) + u64(len(items)) + b"".join(items)


def floats(values: Iterable[float]) -> bytes:
    """The payload of an array of f32."""
    items = [f32(value) for value in values]
    return u32(F32) + u64(len(items)) + b"".join(items)


def integers(values: Iterable[int]) -> bytes:
    """The payload of an array of i32."""
    items = [struct.pack("<i", value) for value in values]
    return u32(I32) + u64(len(items)) + b"".join(items)


@dataclass
class RawTensor:
    """An entry of the tensor list, dimensions in file order; `n_dims` overrides their count."""

    name: bytes
    dims: list[int]
    kind: int
    offset: int
    n_dims: int | None = None

    def pack(self) -> bytes:
        """The entry's bytes."""
        n_dims = len(self.dims) if self.n_dims is None else self.n_dims
        dims = b"".join(map(u64, self.dims))
        return text(self.name) + u32(n_dims) + dims + u32(self.kind) + u64(self.offset)


@dataclass
class RawFile:
    """Magic, version, counts (taken from the lists unless set), pairs (key, type, payload), tensors, data."""

    magic: bytes = b"GGUF"
    version: bytes = u32(3)
    n_tensors: int | None = None
    n_pairs: int | None = None
    pairs: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    tensors: list[RawTensor] = field(default_factory=list)
    data: bytes = b""
    alignment: int = 32

    def pack(self) -> bytes:
        """The file."""
        head = self.head()
        return head + bytes(-len(head) % self.alignment) + self.data

    def head(self) -> bytes:
        """All before the data section's padding."""
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_pairs = len(self.pairs) if self.n_pairs is None else self.n_pairs
        pairs = b"".join(text(key) + u32(kind) + payload for key, kind, payload in self.pairs)
        start = self.magic + self.version + u64(n_tensors) + u64(n_pairs)
        return start + pairs + b"".join(tensor.pack() for tensor in self.tensors)

    def set(self, key: str, kind: int, payload: bytes) -> None:
        """Replace the value of `key`, or add it."""
        self.remove(key)
        self.pairs.append((key.encode(), kind, payload))

    def remove(self, key: str) -> None:
        """Drop `key`."""
        self.pairs = [pair for pair in self.pairs if pair[0] != key.encode()]

    def tensor(self, name: str) -> RawTensor:
        """The entry `name`."""
        return next(tensor for tensor in self.tensors if tensor.name == name.encode())

    def copy(self) -> "RawFile":
        """Another one, of which nothing is shared."""
        return deepcopy(self)


def parse(data: bytes) -> RawFile:
    """The parts of a valid file."""
    raw = RawFile()
    n_tensors, n_pairs = struct.unpack_from("<QQ", data, 8)
    at = 24
    for _ in range(n_pairs):
        key, at = _text(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        end = _skip(data, at + 4, kind)
        raw.pairs.append((key, kind, data[at + 4 : end]))
        at = end
    for _ in range(n_tensors):
        name, at = _text(data, at)
        (n_dims,) = struct.unpack_from("<I", data, at)
        dims = list(struct.unpack_from(f"<{n_dims}Q", data, at + 4))
        kind, offset = struct.unpack_from("<IQ", data, at + 4 + 8 * n_dims)
        raw.tensors.append(RawTensor(name, dims, kind, offset))
        at += 16 + 8 * n_dims
    raw.data = data[-(-at // 32) * 32 :]
    return raw


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + size], at + 8 + size


def _skip(data: bytes, at: int, kind: int) -> int:
    if kind == STRING:
        return _text(data, at)[1]
    if kind != ARRAY:
        return at + SIZES[kind]
    element, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if element != STRING:
        return at + count * SIZES[element]
    for _ in range(count):
        at = _text(data, at)[1]
    return at
