"""Rows of f32 numbers as a float type has them, each rounded to the nearest, ties to even."""

import numpy as np
from numpy.typing import NDArray

from ck.frontend.quantize.rounding import Numbers

Bytes = NDArray[np.uint8]


def f32(rows: Numbers) -> Bytes:
    """4 bytes a number."""
    return np.ascontiguousarray(rows).view(np.uint8)


def f16(rows: Numbers) -> Bytes:
    """2 bytes a number. Raises FloatingPointError, where numpy is told to, for one beyond the range."""
    return np.ascontiguousarray(rows).astype(np.float16).view(np.uint8)


def bf16(rows: Numbers) -> Bytes:
    """2 bytes a number, the upper half of f32."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16).view(np.uint8)
