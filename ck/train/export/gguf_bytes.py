"""Fields of a GGUF header as bytes.

Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

from ck.dtypes import BY_NAME

_U32, _STRING, _ARRAY = 4, 8, 9
_VERSION = 3


def text(value: str) -> bytes:
    """A length and UTF-8; a file's name that is none, as the system gives it, has ? for what is not."""
    data = value.encode(errors="replace")
    return struct.pack("<Q", len(data)) + data


def number_value(value: int) -> bytes:
    """A value of type u32."""
    return struct.pack("<II", _U32, value)


def text_value(value: str) -> bytes:
    """A value of type string."""
    return struct.pack("<I", _STRING) + text(value)


def texts_value(values: Sequence[str]) -> bytes:
    """A value that is an array of strings."""
    return struct.pack("<IIQ", _ARRAY, _STRING, len(values)) + b"".join(map(text, values))


def pairs(values: Mapping[str, bytes]) -> list[bytes]:
    """Keys with their values."""
    return [text(key) + value for key, value in values.items()]


def tensor_info(name: str, shape: tuple[int, ...], storage: str, offset: int) -> bytes:
    """The entry of a tensor, without outer dimensions of 1, as ggml counts them."""
    dims = list(shape[::-1])
    while len(dims) > 1 and dims[-1] == 1:
        dims.pop()
    layout = f"<I{len(dims)}QIQ"
    return text(name) + struct.pack(layout, len(dims), *dims, BY_NAME[storage].ggml_id, offset)


def header(pairs: Sequence[bytes], infos: Sequence[bytes], alignment: int) -> bytes:
    """All before the tensors' data."""
    start = b"GGUF" + struct.pack("<IQQ", _VERSION, len(infos), len(pairs))
    made = b"".join([start, *pairs, *infos])
    return made + bytes(padded(len(made), alignment) - len(made))


def padded(n_bytes: int, alignment: int) -> int:
    """The multiple of the alignment that `n_bytes` take."""
    return -(-n_bytes // alignment) * alignment


def offsets(sizes: Iterable[int], alignment: int) -> list[int]:
    """Where tensors of these sizes begin, one behind the other."""
    found, end = list[int](), 0
    for size in sizes:
        found.append(end)
        end += padded(size, alignment)
    return found
