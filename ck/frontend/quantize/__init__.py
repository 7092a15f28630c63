"""Rows of numbers as a storage type has them, byte for byte as ggml's reference quantisers make them.

    legacy                 Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: blocks of 32
    q2_k, .. q6_k          Q2_K, Q3_K, Q4_K, Q5_K, Q6_K: blocks of 256
    iq4                    IQ4_NL, IQ4_XS
    lines, scales, units   the searches they share;  rounding: the arithmetic
    floats                 f32, f16, bf16

ggml's own code gives other bytes where a compiler may fuse its products and sums, as on ARM.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ck.dtypes import StorageType
from ck.errors import UnsupportedError
from ck.frontend.quantize.floats import bf16, f16, f32
from ck.frontend.quantize.iq4 import iq4_nl, iq4_xs
from ck.frontend.quantize.legacy import q4_0, q4_1, q5_0, q5_1, q8_0
from ck.frontend.quantize.q2_k import q2_k
from ck.frontend.quantize.q3_k import q3_k
from ck.frontend.quantize.q4_k import q4_k
from ck.frontend.quantize.q5_k import q5_k
from ck.frontend.quantize.q6_k import q6_k

Rows = NDArray[np.float32]
Bytes = NDArray[np.uint8]
_FLOATS: dict[str, Callable[[Rows], Bytes]] = {"f32": f32, "f16": f16, "bf16": bf16}
# Of rows [n, K], whole ones, since weights [K] go with a row's own squares.
_LEGACY: dict[str, Callable[[Rows, Rows | None], Bytes]] = {
    "q8_0": q8_0, "q5_1": q5_1, "q5_0": q5_0, "q4_1": q4_1, "q4_0": q4_0, "iq4_nl": iq4_nl,
}  # fmt: skip
# Of blocks [n, 256], with the weights [n, 256] of their numbers.
_K_TYPES: dict[str, Callable[[Rows, Rows | None], Bytes]] = {
    "q6_k": q6_k, "q5_k": q5_k, "q4_k": q4_k, "q3_k": q3_k, "q2_k": q2_k, "iq4_xs": iq4_xs,
}  # fmt: skip
# Numbers at a time, for which what is computed from them stays in a core's cache.
_AT_A_TIME = 1 << 16
# What a K type becomes where rows are no multiple of its block, as llama.cpp has it.
FALLBACKS = {
    "q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "iq4_xs": "iq4_nl",
}  # fmt: skip
# Types that matrices can be made into on load, and in a file.
QUANTIZED = (*_LEGACY, *_K_TYPES)
STORED = (*_FLOATS, *QUANTIZED)


def quantize_rows(values: Rows, storage: StorageType, importance: Rows | None = None) -> Bytes:
    """Rows [n, K] as the type has them: [n, storage.row_bytes(K)]. K is a multiple of the block.

    `importance` [K] is how much an error in each column weighs. Numbers are finite. Raises UnsupportedError
    where some are beyond the range of the type.
    """
    try:
        with np.errstate(over="raise"):
            return _rows(values, storage, importance)
    except FloatingPointError:
        found = f"found {np.abs(values).max():.6g}"
        if importance is not None:
            found += f" with importance up to {importance.max():.6g}"
        raise UnsupportedError(
            f"{storage.name} has a smaller range than the numbers, {found}; choose bf16"
        ) from None


def _rows(values: Rows, storage: StorageType, importance: Rows | None) -> Bytes:
    if storage.name in _FLOATS:
        return _FLOATS[storage.name](values)
    if storage.name in _LEGACY:
        legacy, step = _LEGACY[storage.name], max(1, _AT_A_TIME // values.shape[1])
        parts = [legacy(values[n : n + step], importance) for n in range(0, len(values), step)]
    else:
        parts = list(_blocks(values, storage, importance))
    return np.concatenate(parts).reshape(len(values), -1)


def _blocks(values: Rows, storage: StorageType, importance: Rows | None) -> Iterator[Bytes]:
    make, step = _K_TYPES[storage.name], _AT_A_TIME // storage.block
    blocks, weights = values.reshape(-1, storage.block), None
    if importance is not None:
        weights = np.broadcast_to(importance, values.shape).reshape(blocks.shape)
    for first in range(0, len(blocks), step):
        part = slice(first, first + step)
        yield make(blocks[part], None if weights is None else weights[part])
