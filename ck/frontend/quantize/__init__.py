"""Rows of numbers as blocks of a storage type: what `--quantize` and the export to GGUF store.

Legacy types are made by the gguf package, which has no K types; those are made here.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ck.dtypes import StorageType
from ck.frontend.quantize.q4_k import q4_k
from ck.frontend.quantize.q6_k import q6_k

Rows = NDArray[np.float32]
# 256 numbers a block, in rows of their own.
_K_TYPES: dict[str, Callable[[Rows], NDArray[np.uint8]]] = {"q4_k": q4_k, "q6_k": q6_k}
# Blocks at a time, for which what is computed from them stays in a core's cache.
_AT_A_TIME = 256
# What a K type becomes where rows are no multiple of its block, as llama.cpp has it.
FALLBACKS = {"q4_k": "q5_0", "q6_k": "q8_0"}
# Quantised types that rows can be made into.
QUANTIZED = ("q8_0", "q5_0", "q4_1", *_K_TYPES)


def quantize_rows(values: Rows, storage: StorageType) -> NDArray[np.uint8]:
    """Rows [n, K] as blocks: [n, storage.row_bytes(K)]. K is a multiple of the block, numbers are finite."""
    make = _K_TYPES.get(storage.name)
    if make is not None:
        blocks = values.reshape(-1, storage.block)
        parts = [make(blocks[first : first + _AT_A_TIME]) for first in range(0, len(blocks), _AT_A_TIME)]
        return np.concatenate(parts).reshape(len(values), -1)
    from gguf import GGMLQuantizationType, quantize

    return quantize(values, GGMLQuantizationType(storage.ggml_id))
