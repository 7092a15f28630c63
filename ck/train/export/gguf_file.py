"""A model as one GGUF file, as llama.cpp and ck read it."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ck.dtypes import BY_NAME
from ck.errors import UnsupportedError, UsageError
from ck.frontend.decays import is_filter, with_decays
from ck.frontend.gguf.reader import DEFAULT_ALIGNMENT
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model import GgufModel
from ck.frontend.quantize import FALLBACKS, quantize_rows
from ck.frontend.rope import DIVISORS
from ck.frontend.vocabulary import read_vocabulary
from ck.train.export.checks import Weights, check_place, checked_shapes, checked_tensor, outward_of
from ck.train.export.gguf_header import write_header
from ck.train.files import replacing
from ck.train.rundir import output_errors

# Storage types of matrices -> what general.file_type calls a file of them (llama.h, llama_ftype).
STORAGE_TYPES = {
    "f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q5_1": 9, "q5_0": 8, "q4_1": 3, "q4_0": 2, "iq4_nl": 25,
    "q6_k": 18, "q5_k": 16, "q4_k": 14, "q3_k": 11, "q2_k": 10, "iq4_xs": 30,
}  # fmt: skip
_QUANTIZATION_VERSION = 2


def export_gguf(
    path: Path,
    hp: HyperParameters,
    weights: Weights,
    vocabulary: Mapping[str, Any],
    storage: str = "f32",
    *,
    name: str | None = None,
    force: bool = False,
) -> None:
    """Write the model to the GGUF file at `path`: matrices as `storage`, a STORAGE_TYPES, others as f32.

    vocabulary   the header's keys `tokenizer.*`: scalars, lists and numpy arrays
    name         general.name; the file's stem when not given

    The file is read back by ck's own reader before it gets its name. Raises ConflictError when there is one
    and not `force`, UsageError for an unknown storage type or one that rows do not fit, UnsupportedError for
    numbers that a header cannot state and values that the type cannot hold, MalformedError when weights,
    tokens and `hp` do not fit together, ResourceError, MachineError.
    """
    hp, weights = with_decays(hp, weights, logarithms=False)
    shapes = checked_shapes(hp, weights, vocabulary)
    _check_storage(storage, shapes)
    check_place(path, force=force)
    keys: dict[str, Any] = {
        "general.name": name or path.stem,
        "general.file_type": STORAGE_TYPES[storage],
        "general.quantization_version": _QUANTIZATION_VERSION,
        **outward_of(hp).gguf_metadata(hp),
        **vocabulary,
    }
    numbers = {DIVISORS: np.array(hp.rope_divisors, np.float32)} if hp.rope_divisors else {}
    weights, shapes = {**weights, **numbers}, {**shapes, **{n: v.shape for n, v in numbers.items()}}
    with output_errors(path), replacing(path) as file:
        stored = {name: _stored_as(storage, name, shape) for name, shape in shapes.items()}
        write_header(file.name, hp.arch, keys, shapes, stored)
        _append(file, (_encode(n, checked_tensor(weights, n, shapes[n]), stored[n]) for n in shapes))
        _check_header(path, Path(file.name), hp)


def _stored_as(storage: str, name: str, shape: tuple[int, ...]) -> str:
    """The type of a tensor where matrices are asked for as `storage`: vectors and filters are f32."""
    if len(shape) < 2 or is_filter(name):
        return "f32"
    fits = shape[-1] % BY_NAME[storage].block == 0
    return storage if fits else FALLBACKS.get(storage, storage)


def _check_storage(storage: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if storage not in STORAGE_TYPES:
        known = ", ".join(STORAGE_TYPES)
        raise UsageError(f"storage type: must be one of {known}, found {storage}")
    for name, shape in shapes.items():
        of = BY_NAME[_stored_as(storage, name, shape)]
        if shape[-1] % of.block:
            raise UsageError(
                f"{name}: rows must be multiples of {of.block} to be stored as {of.name}, found {shape[-1]}; "
                "choose f32, f16 or bf16"
            )


def _append(file: BinaryIO, tensors: Iterable[NDArray[Any]]) -> None:
    """The tensors' data behind the header, each at a multiple of the alignment."""
    end = file.seek(0, os.SEEK_END)
    for tensor in tensors:
        file.write(bytes(-end % DEFAULT_ALIGNMENT))
        file.write(tensor.data)
        end = file.tell()
    file.write(bytes(-end % DEFAULT_ALIGNMENT))
    file.flush()


def _encode(name: str, values: NDArray[np.float32], storage: str) -> NDArray[Any]:
    """`values` as the bytes of the file. Raises UnsupportedError when the type's range is too small."""
    if storage == "f16" and np.abs(values).max() > np.finfo(np.float16).max:
        found = np.abs(values).max()
        raise UnsupportedError(f"{name}: must be below 65504 to be stored as f16, found {found}; choose bf16")
    return quantize_rows(values, BY_NAME[storage])


def _check_header(path: Path, scratch: Path, hp: HyperParameters) -> None:
    """Raise UnsupportedError when the file at `scratch`, to be `path`, does not read back as `hp`.

    Raises MalformedError when its vocabulary is none.
    """
    file = GgufModel(scratch)
    read_vocabulary(file.metadata, hp.n_vocab)
    stored = asdict(file.hyperparameters())
    for name, value in asdict(hp).items():
        # A header's floats are f32.
        round_: Callable[[Any], Any] = np.float32 if isinstance(value, float) else lambda exact: exact
        if round_(stored[name]) != round_(value):
            raise UnsupportedError(
                f"{path}: {name} must be {stored[name]} in a GGUF file of this family, found {value}"
            )
