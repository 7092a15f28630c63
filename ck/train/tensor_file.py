"""Safetensors files in pieces, so that no tensor is copied and whoever writes sees what the system says.

The length of the header as u64, the header in JSON padded to 8 bytes, the tensors' bytes. The package's own
writer takes all tensors at once and hides a full disk's errno; it does the reading.
Source: the safetensors README, section Format.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def tensor_file(
    shapes: Mapping[str, tuple[int, ...]],
    values: Iterable[NDArray[np.float32]],
    metadata: Mapping[str, str] | None = None,
) -> Iterator[memoryview | bytes]:
    """The bytes of f32 tensors with these names and shapes, whose `values` come in the same order."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in values:
        yield np.ascontiguousarray(tensor, "<f4").reshape(-1).view(np.uint8).data
