"""Weights, rows and cache contents for a program, the same for the same seed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from xdsl.ir import Attribute

from ck.ir.evaluate import Kept
from ck.ir.types import CacheType, KvType, WeightType, shape
from tests.graphs.program import Graph
from tests.ops.case import F16_FIELDS, Operand

# An id that no table has, and a row that no document begins at: for rows that are not live.
JUNK = 1 << 30


def rng_of(seed: int, *what: Any) -> np.random.Generator:
    """Numbers for one thing of one program."""
    return np.random.default_rng([seed, *(b for word in what for b in str(word).encode())])


def draw_weights(graph: Graph, seed: int) -> dict[str, Operand]:
    """Matrices whose products keep the size of a row, gains around 1, frequencies below 1."""
    return {name: _weight(name, of, rng_of(seed, name)) for name, of in graph.weights.items()}


def _weight(name: str, of: Attribute, rng: np.random.Generator) -> Operand:
    if not isinstance(of, WeightType):
        drawn = rng.random(shape(of)) if name.startswith("freq") else 1 + 0.3 * rng.standard_normal(shape(of))
        return _same(drawn.astype(np.float32))
    n_out, n_in = of.get_shape()
    if of.row.quantized:
        return _blocks(of, rng)
    rows = (rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)).astype(np.float32)
    if of.storage.data == "f16":
        return Operand(rows.astype(np.float16).astype(np.float32), rows.astype(np.float16))
    if of.storage.data == "bf16":
        halves = (rows.view(np.uint32) >> 16).astype(np.uint16)
        return Operand((halves.astype(np.uint32) << 16).view(np.float32), halves)
    return _same(rows)


def _same(rows: np.ndarray) -> Operand:
    return Operand(rows, rows)


def _blocks(of: WeightType, rng: np.random.Generator) -> Operand:
    """Random bytes of a file's blocks, their scales such that values are of size 1 / sqrt(columns)."""
    n_out, n_in = of.get_shape()
    blocks = rng.integers(0, 256, (n_out, n_in // of.row.block, of.row.file_bytes), np.uint8)
    kind = GGMLQuantizationType(of.row.ggml_id)
    for size in (1.0, None):
        if size is None:
            size = 1 / (float(dequantize(blocks.reshape(n_out, -1), kind).std()) * np.sqrt(n_in))
        for at in F16_FIELDS[of.storage.data]:
            scales = (size * (0.75 + 0.5 * rng.random(blocks.shape[:2]))).astype(np.float16)
            blocks[..., at : at + 2] = scales[..., None].view(np.uint8)
    stored = blocks.reshape(n_out, -1)
    return Operand(dequantize(stored, kind), stored)


def draw_rows(rng: np.random.Generator, n: int, columns: int, style: str) -> np.ndarray:
    """[n, columns] f32: of size 1, with rows and columns of zeros, large or tiny."""
    rows = rng.standard_normal((n, columns)).astype(np.float32)
    if style == "zeros":
        rows[rng.random(n) < 0.4] = 0
        rows[:, rng.random(columns) < 0.3] = -0.0
    return rows * np.float32({"large": 30, "tiny": 1e-4}.get(style, 1))


def padded(values: np.ndarray, capacity: int, fill: Any) -> np.ndarray:
    """`values` with rows of `fill` up to `capacity`."""
    made = np.full((capacity, *values.shape[1:]), fill, values.dtype)
    made[: len(values)] = values
    return made


def draw_history(of: CacheType, first: int, rng: np.random.Generator) -> Kept:
    """Keys and values [first, kv heads, head width] of positions before `first`, as a cache holds them.

    Of a recurrent state what position `first` finds; before position 0 that is NaN, which nothing may read.
    """
    if not isinstance(of, KvType):
        state = rng.standard_normal(shape(of), np.float32)
        return state if first else state * np.float32(np.nan)
    kv_heads, _, head_dim = shape(of)
    dtype = np.float16 if of.dtype_name == "f16" else np.float32
    keys, values = (rng.standard_normal((first, kv_heads, head_dim)).astype(dtype) for _ in range(2))
    return keys, values


def in_slots(of: CacheType, history: Kept) -> Kept:
    """A cache [kv heads, capacity, head width] that holds the last positions of a history, else NaN.

    A recurrent state is its own history.
    """
    if not isinstance(of, KvType):
        return history
    kv_heads, capacity, head_dim = shape(of)
    made = []
    for part in history:
        dtype = np.float16 if of.dtype_name == "f16" else np.float32
        slots = np.full((kv_heads, capacity, head_dim), np.nan, dtype)
        for position in range(max(0, len(part) - capacity), len(part)):
            slots[:, position % capacity] = part[position]
        made.append(slots)
    return made[0], made[1]


def unpacked(of: CacheType, memory: np.ndarray) -> Kept:
    """Keys and values [kv heads, capacity, head width] of a cache's bytes; a recurrent state as it is."""
    if not isinstance(of, KvType):
        return memory
    kv_heads, capacity, head_dim = shape(of)
    keys, values = memory.view(np.float16 if of.dtype_name == "f16" else np.float32).reshape(2, -1)
    blocks = keys.reshape(kv_heads, capacity // 64, head_dim, 64).swapaxes(2, 3)
    return blocks.reshape(kv_heads, capacity, head_dim), values.reshape(kv_heads, capacity, head_dim)


def copied(kept: Kept) -> Kept:
    """A cache of its own."""
    return kept.copy() if isinstance(kept, np.ndarray) else (kept[0].copy(), kept[1].copy())


def named(name: str, kept: Kept) -> dict[str, np.ndarray]:
    """What a cache holds, by names that say what it is."""
    if isinstance(kept, np.ndarray):
        return {f"state of {name}": kept}
    return {f"keys of {name}": kept[0], f"values of {name}": kept[1]}


def arrays(weights: Mapping[str, Operand], real: Any = np.float32) -> dict[str, np.ndarray]:
    """The values of weights, copied."""
    return {name: operand.value.astype(real) for name, operand in weights.items()}
