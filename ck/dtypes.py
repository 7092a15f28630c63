"""Storage types: how a weight lies in a GGUF file and in the packed `r16` layout, one row each.

A matrix [N, K] in layout `r16` is ceil(N / 16) panels of 16 rows; rows past N are zero. A panel is
K / `block` packed blocks of `packed_bytes` bytes, in order of K; runtime_c/blocks.h draws each packed block.
Source of the file formats: the GGUF specification and the `gguf` package (the oracle of tests/backend).
"""

from dataclasses import dataclass

PANEL_ROWS = 16


@dataclass(frozen=True)
class StorageType:
    """One storage type: elements of a `block`, its `file_bytes` in one row, its `packed_bytes` in 16 rows."""

    name: str
    ggml_id: int
    block: int
    file_bytes: int
    packed_bytes: int
    quantized: bool

    def row_bytes(self, n_in: int) -> int:
        """Bytes of one row of `n_in` elements in the file."""
        return n_in // self.block * self.file_bytes

    def matrix_packed_bytes(self, n_out: int, n_in: int) -> int:
        """Bytes of a [n_out, n_in] matrix in layout `r16`."""
        return -(-n_out // PANEL_ROWS) * (n_in // self.block) * self.packed_bytes


_ROWS = (
    #            name    id block file packed quantized
    StorageType("f32", 0, 1, 4, 64, False),
    StorageType("f16", 1, 1, 2, 32, False),
    StorageType("q4_0", 2, 32, 18, 288, True),
    StorageType("q4_1", 3, 32, 20, 320, True),
    StorageType("q5_0", 6, 32, 22, 352, True),
    StorageType("q5_1", 7, 32, 24, 384, True),
    StorageType("q8_0", 8, 32, 34, 544, True),
    StorageType("q2_k", 10, 256, 84, 1344, True),
    StorageType("q3_k", 11, 256, 110, 1824, True),
    StorageType("q4_k", 12, 256, 144, 2368, True),
    StorageType("q5_k", 13, 256, 176, 2880, True),
    StorageType("q6_k", 14, 256, 210, 3360, True),
    StorageType("iq4_nl", 20, 32, 18, 288, True),
    StorageType("iq4_xs", 23, 256, 136, 2208, True),
    StorageType("bf16", 30, 1, 2, 32, False),
)

BY_NAME = {row.name: row for row in _ROWS}
BY_GGML_ID = {row.ggml_id: row for row in _ROWS}


# How products of quantised weights may take their rows: in 15 bits (two planes of int8) or in 8 (one).
ACTIVATIONS = ("q16", "q8")


def activation_row_bytes(k: int, planes: int) -> int:
    """Bytes of one row of `k` quantised activations: planes of k int8, k/32 f32 scales, k/16 i32 sums."""
    return planes * k + k // 32 * 4 + k // 16 * 4
