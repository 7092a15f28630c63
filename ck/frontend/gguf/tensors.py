"""The tensor part of a GGUF header: names, shapes, storage types and where the data lies, all checked.

Source: the GGUF specification, and ggml.h for the numbers of the storage types.
"""

from collections import Counter
from dataclasses import dataclass, replace

from ck.dtypes import BY_GGML_ID, StorageType
from ck.errors import UnsupportedError
from ck.frontend.gguf.cursor import Cursor, shown

TENSOR_LIMIT = 65_536
NAME_LIMIT_BYTES = 64
DIMENSION_LIMIT = 4

# Types that ggml defines and ck does not read: a file with one is well formed.
_UNREAD = {
    9: "q8_1", 15: "q8_k", 16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s", 21: "iq3_s", 22: "iq2_s",
    24: "i8", 25: "i16", 26: "i32", 27: "i64", 28: "f64", 29: "iq1_m", 34: "tq1_0", 35: "tq2_0", 39: "mxfp4",
    40: "nvfp4", 41: "q1_0",
}  # fmt: skip


@dataclass(frozen=True)
class GgufTensor:
    """One tensor. `shape` outermost first: [out, in] for a matrix; `offset` counts from the file's start."""

    name: str
    shape: tuple[int, ...]
    storage: StorageType
    offset: int
    n_bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, of one element of a vector."""
        return self.n_bytes // self.shape[0]


def read_tensors(cursor: Cursor, count: int, alignment: int, n_file_bytes: int) -> dict[str, GgufTensor]:
    """The `count` tensors described at the cursor, in file order.

    Raises MalformedError when an entry breaks the format or its data does not lie inside the file behind the
    data of the entry before it, UnsupportedError when ck does not read its storage type.
    """
    infos: dict[str, GgufTensor] = {}
    for index in range(count):
        info = _read_info(cursor, index)
        if info.name in infos:
            raise cursor.error(f"tensor {shown(info.name)} must occur once, found it again as tensor {index}")
        infos[info.name] = info
    base = -(-cursor.position // alignment) * alignment
    return _place(cursor, infos, base, alignment, n_file_bytes)


def count_types(cursor: Cursor, count: int) -> dict[str, int]:
    """How many of the `count` tensors described at the cursor are of each storage type, by its name.

    Raises MalformedError when an entry breaks the format; where the data lies is not looked at.
    """
    found = Counter[str]()
    for index in range(count):
        name, _ = _read_shape(cursor, index)
        number = cursor.u32(f"storage type of tensor {shown(name)}")
        cursor.u64(f"offset of tensor {shown(name)}")
        known = BY_GGML_ID.get(number)
        found[known.name if known else _UNREAD.get(number, f"type {number}")] += 1
    return dict(found)


def _read_info(cursor: Cursor, index: int) -> GgufTensor:
    name, shape = _read_shape(cursor, index)
    what = f"tensor {shown(name)}"
    storage = _storage(cursor, cursor.u32(f"storage type of {what}"), what)
    offset = cursor.u64(f"offset of {what}")
    return GgufTensor(name, shape, storage, offset, _n_bytes(cursor, shape, storage, what))


def _read_shape(cursor: Cursor, index: int) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a tensor."""
    name = cursor.string(f"name of tensor {index}", NAME_LIMIT_BYTES)
    if not name:
        raise cursor.error(f"tensor {index} must have a name, found an empty one")
    what = f"tensor {shown(name)}"
    n_dims = cursor.u32(f"number of dimensions of {what}")
    if not 1 <= n_dims <= DIMENSION_LIMIT:
        raise cursor.error(f"{what} must have 1 to {DIMENSION_LIMIT} dimensions, found {n_dims}")
    # The file lists the innermost dimension first.
    shape = tuple(cursor.u64(f"dimensions of {what}") for _ in range(n_dims))[::-1]
    if min(shape) < 1:
        raise cursor.error(f"every dimension of {what} must be at least 1, found {list(shape)}")
    return name, shape


def _storage(cursor: Cursor, number: int, what: str) -> StorageType:
    if number in BY_GGML_ID:
        return BY_GGML_ID[number]
    if number in _UNREAD:
        known = ", ".join(row.name for row in BY_GGML_ID.values())
        raise UnsupportedError(
            f"{cursor.name}: {what} is stored as {_UNREAD[number]}, ck reads {known}; requantise it"
        )
    raise cursor.error(f"storage type of {what} must be one that ggml defines, found {number}")


def _n_bytes(cursor: Cursor, shape: tuple[int, ...], storage: StorageType, what: str) -> int:
    n_in = shape[-1]
    if n_in % storage.block:
        raise cursor.error(
            f"{storage.name} rows of {what} must be multiples of {storage.block}, found {n_in}"
        )
    # Python's integers do not wrap: an absurd product fails the comparison with the file's size.
    n_bytes = storage.row_bytes(n_in)
    for dim in shape[:-1]:
        n_bytes *= dim
    return n_bytes


def _place(
    cursor: Cursor, infos: dict[str, GgufTensor], base: int, alignment: int, n_file_bytes: int
) -> dict[str, GgufTensor]:
    """`infos`, whose offsets count from the data section at `base`, with offsets from the file's start."""
    tensors: dict[str, GgufTensor] = {}
    end = 0
    for name, info in infos.items():
        what = f"data of tensor {shown(name)}"
        if info.offset % alignment:
            raise cursor.error(f"{what} must start at a multiple of {alignment}, found offset {info.offset}")
        if info.offset < end:
            raise cursor.error(
                f"{what} must start behind the one before, at {end}, found offset {info.offset}"
            )
        end = info.offset + info.n_bytes
        if base + end > n_file_bytes:
            raise cursor.error(
                f"{what} must end within the file's {n_file_bytes} bytes, it ends at {base + end}; "
                "download the file again if it was cut short"
            )
        tensors[name] = replace(info, offset=base + info.offset)
    return tensors
