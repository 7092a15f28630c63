"""An importance matrix as a GGUF file, as llama-imatrix writes it. `ck/frontend/quantize` reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.frontend.gguf.reader import DEFAULT_ALIGNMENT
from ck.frontend.quantize.importance import CHUNK_COUNT, CHUNK_SIZE, COUNTS, DATASETS, SUMS
from ck.train.export.gguf_bytes import (
    header,
    number_value,
    offsets,
    padded,
    pairs,
    tensor_info,
    text_value,
    texts_value,
)
from ck.train.files import replacing
from ck.train.rundir import output_errors


def write_importance(
    path: Path, squares: Mapping[str, NDArray[Any]], n_chunks: int, chunk_size: int, datasets: list[str]
) -> None:
    """Write the sums of squares [K] by matrix over `n_chunks` windows of `chunk_size` tokens of each text.

    What is at `path` is replaced. Raises ResourceError, MachineError.
    """
    said = {
        "general.type": text_value("imatrix"),
        DATASETS: texts_value(datasets),
        CHUNK_COUNT: number_value(n_chunks),
        CHUNK_SIZE: number_value(chunk_size),
    }
    count = np.array([n_chunks * chunk_size], np.float32)
    data: dict[str, NDArray[np.float32]] = {}
    for name in sorted(squares):
        data[name + SUMS], data[name + COUNTS] = squares[name].astype(np.float32), count
    places = offsets((values.nbytes for values in data.values()), DEFAULT_ALIGNMENT)
    infos = [
        tensor_info(name, values.shape, "f32", offset)
        for (name, values), offset in zip(data.items(), places, strict=True)
    ]
    with output_errors(path), replacing(path) as file:
        file.write(header(pairs(said), infos, DEFAULT_ALIGNMENT))
        for values in data.values():
            file.write(values.data)
            file.write(bytes(padded(values.nbytes, DEFAULT_ALIGNMENT) - values.nbytes))
