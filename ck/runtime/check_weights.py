"""Made-up weights as a file stores them, as the f32 numbers they stand for, and as a program reads them.

So interpreters and compiled programs compute with the same numbers, whatever the storage type.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Attribute

from ck.errors import InternalError
from ck.ir.check.inputs import draw_weight, generator
from ck.ir.types import WeightType, keeps_rows, shape
from ck.runtime.library import library
from ck.runtime.weights import dequantize

# Of each quantised type: where a block of a file holds its f16 numbers, in bytes; their factors, with which
# blocks of random bytes have mean 0; and the standard deviation of such a block whose first number is 1.
_BLOCKS: dict[str, tuple[tuple[tuple[int, float], ...], float]] = {
    "q8_0": (((0, 1.0),), 73.9),
    "q5_1": (((0, 1.0), (2, -15.5)), 9.23),
    "q5_0": (((0, 1.0),), 9.23),
    "q4_1": (((0, 1.0), (2, -7.5)), 4.61),
    "q4_0": (((0, 1.0),), 4.61),
    "q4_k": (((0, 1.0), (2, 7.5)), 258.0),
    "q6_k": (((208, 1.0),), 1367.0),
    "q5_k": (((0, 1.0), (2, 15.5)), 528.0),
    "q3_k": (((108, 1.0),), 43.3),
    "q2_k": (((80, 1.0), (82, 1.5)), 13.87),
    "iq4_nl": (((0, 1.0),), 67.2),
    "iq4_xs": (((0, 1.0),), 1246.0),
}
ALIGN = 64


class StoredWeights:
    """Weights drawn from names and types, quantised ones in blocks of random bytes."""

    def __init__(self) -> None:
        self._blocks: dict[str, NDArray[np.uint8]] = {}

    def draw(self, name: str, of: Attribute) -> NDArray[np.float32]:
        """The weight `name` as f32."""
        if not isinstance(of, WeightType) or not of.row.quantized:
            return draw_weight(name, of)
        blocks = self._blocks[name] = random_blocks(name, of)
        values = np.empty(of.get_shape(), np.float32)
        dequantize(of.storage.data, blocks, values)
        return values

    def packed(self, name: str, of: Attribute, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The weight `name`, whose values are `values`, as a program reads it: bytes."""
        if not isinstance(of, WeightType) or keeps_rows(of):
            return aligned(np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1))
        n_out, n_in = shape(of)
        stored: NDArray[Any] = self._blocks[name] if of.row.quantized else as_stored(values, of.storage.data)
        packed = aligned(np.zeros(of.row.matrix_packed_bytes(n_out, n_in), np.uint8))
        getattr(library(), f"ck_pack_{of.storage.data}")(
            packed.ctypes.data, stored.ctypes.data, n_out, n_in, 0, 1
        )
        return packed


def random_blocks(name: str, of: WeightType) -> NDArray[np.uint8]:
    """Rows of a file whose numbers have mean 0 and the size that keeps a row's."""
    n_out, n_in = of.get_shape()
    if of.storage.data not in _BLOCKS:
        raise InternalError(f"blocks of {of.storage.data} have no rule by which they are drawn")
    fields, deviation = _BLOCKS[of.storage.data]
    rng = generator(name, (n_out, n_in))
    blocks = rng.integers(0, 256, (n_out, n_in // of.row.block, of.row.file_bytes), np.uint8)
    scale = rng.uniform(0.5, 1.5, blocks.shape[:2]) / (deviation * np.sqrt(n_in))
    for at, factor in fields:
        numbers = (factor * scale).astype(np.float16)
        blocks[..., at : at + 2] = numbers[..., None].view(np.uint8)
    return blocks.reshape(n_out, -1)


def as_stored(values: NDArray[np.float32], storage: str) -> NDArray[Any]:
    """Numbers that a float type holds, as a file stores them."""
    if storage == "f16":
        return values.astype(np.float16)
    if storage == "bf16":
        return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(values)


def aligned(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy that begins on a cache line and has one behind it: kernels may prefetch past the end."""
    memory = np.zeros(len(data) + 2 * ALIGN, np.uint8)
    skip = -memory.ctypes.data % ALIGN
    memory[skip : skip + len(data)] = data
    return memory[skip : skip + len(data)]
