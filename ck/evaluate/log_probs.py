"""Log probabilities: of tokens, in f64, and of a whole vocabulary rounded to 16 bits.

A row of V logits x becomes a row of llama-perplexity's, scale, floor and V whole numbers q, which mean

    ln p[v] = scale * q[v] + floor
    floor   = low - max(x) - ln(sum_v exp(x[v] - max(x)))    low   = max(min(x), max(x) - 16)
    q[v]    = round((x[v] - low) / scale), 0 below low       scale = (max(x) - low) / 65535

with ties to the even number. All of it is f32 but the sum. A row is 4 + 4 + 2 V bytes, with 2 more of zeros
when V is odd.
"""

import numpy as np
from numpy.typing import NDArray

from ck.evaluate.estimate import Values

Logits = NDArray[np.float32]
# Below the likeliest token, in nats; what is further down is kept as if it were there.
RANGE = np.float32(16)
STEPS = np.float32(65535)


def row_bytes(n_vocab: int) -> int:
    """What a row of `n_vocab` tokens takes."""
    return 8 + 2 * (n_vocab + n_vocab % 2)


def row_type(n_vocab: int) -> np.dtype[np.void]:
    """How a row of `n_vocab` tokens lies in memory and in a file."""
    parts = {"scale": ("<f4", 0), "floor": ("<f4", 4), "q": (("<u2", (n_vocab,)), 8)}
    return np.dtype(
        {
            "names": [*parts],
            "formats": [kind for kind, _ in parts.values()],
            "offsets": [at for _, at in parts.values()],
            "itemsize": row_bytes(n_vocab),
        }
    )


def log_prob_of(logits: Logits, tokens: NDArray[np.int32]) -> Values:
    """ln p [T] of `tokens` [T] by their rows of `logits` [T, V]."""
    chosen = np.take_along_axis(logits, tokens[:, None].astype(np.int64), -1)[:, 0]
    return chosen.astype(np.float64) - log_sum_exp(logits)


def log_sum_exp(logits: Logits) -> Values:
    """ln sum_v exp(x[t, v]) [T] of `logits` [T, V]: exponentials in f32, their sum in f64."""
    top = logits.max(-1, keepdims=True)
    return top[:, 0].astype(np.float64) + np.log(_sum_exp(logits, top))


def _sum_exp(logits: Logits, top: Logits) -> Values:
    return np.exp(logits - top).sum(-1, dtype=np.float64)


def compress(logits: Logits) -> NDArray[np.void]:
    """Rows [T] of `row_type` of `logits` [T, V]."""
    n_rows, n_vocab = logits.shape
    rows = np.zeros(n_rows, row_type(n_vocab))
    top = logits.max(-1, keepdims=True)
    low = np.maximum(logits.min(-1, keepdims=True), top - RANGE)
    scale = (top - low) / STEPS
    log_sum = np.log(_sum_exp(logits, top)).astype(np.float32)
    rows["scale"], rows["floor"] = scale[:, 0], (low - top)[:, 0] - log_sum
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    rows["q"] = np.rint(np.maximum(logits - low, np.float32(0)) * inverse)
    return rows


def expand(rows: NDArray[np.void]) -> Logits:
    """ln p [T, V] in f32 of rows [T] of `row_type`."""
    return rows["q"] * rows["scale"][:, None] + rows["floor"][:, None]
