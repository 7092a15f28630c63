"""`StoredTensors`: transformers' tensors as a GGUF file would have them, made when they are asked for.

Names, order of rows and the constants of gains are translated by the family's outward module. A matrix keeps
its type, or is quantised (ck/frontend/quantize); vectors are f32, as everywhere in ck, and filters. Nothing
is kept: a large matrix that is quantised passes through memory a few rows at a time.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.dtypes import BY_NAME, StorageType
from ck.errors import MalformedError, UnsupportedError, UsageError
from ck.frontend.architectures import find_architecture
from ck.frontend.architectures.outward import Array, find_outward, outward_shape
from ck.frontend.decays import is_filter
from ck.frontend.gguf.cursor import shown
from ck.frontend.huggingface.shards import TensorStore
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.quantize import FALLBACKS, QUANTIZED, quantize_rows

# What llama.cpp quantises to besides QUANTIZED.
_OTHERS = ("iq3_s", "iq3_xxs", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "tq2_0", "tq1_0")
# bf16 is no type of numpy's: its bits travel as those of f16, which no reordering changes.
_CARRIERS: dict[str, Any] = {"f32": np.float32, "f16": np.float16, "bf16": np.float16}
_ROWS_AT_A_TIME = 128
# Blocks that predict the tokens behind the next one.
_PREDICTORS = ("mtp.", "model.mtp.")
# Buffers that transformers saved with a model once, computed from config.json.
_BUFFERS = ("rotary_emb.inv_freq",)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor, under GGUF's name; `source` is transformers'."""

    name: str
    source: str
    shape: tuple[int, ...]
    storage: StorageType

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        return self.storage.row_bytes(self.shape[-1]) * int(np.prod(self.shape[:-1], dtype=np.int64))


def quantized_type(quantize: str | None) -> str | None:
    """The type that matrices are to be stored as, which may be written in any case; None leaves them.

    Raises UsageError, UnsupportedError for one that ck does not make.
    """
    if quantize is None:
        return None
    known, storage = ", ".join(QUANTIZED), quantize.lower()
    if storage in QUANTIZED:
        return storage
    if storage in _OTHERS:
        raise UnsupportedError(
            f"quantize: ck makes {known} on load, found {quantize}; give a GGUF file of it"
        )
    raise UsageError(f"quantize: one of {known} is required, found {shown(quantize)}")


class StoredTensors:
    """The tensors of the model `hp` in `store`, matrices quantised to `quantize` unless that is None.

    `skipped` names those that the model does without: blocks that predict further tokens.

    Raises MalformedError when a tensor is missing or has another shape, UnsupportedError for one that the
    family does not have, UsageError when rows cannot be quantised; errors speak of `where`.
    """

    def __init__(self, store: TensorStore, hp: HyperParameters, quantize: str | None, where: str) -> None:
        family, architecture = find_outward(hp.arch), find_architecture(hp.arch)
        assert family is not None
        assert architecture is not None
        self._store, self._hp, self._family = store, hp, family
        names = family.huggingface_names(hp)
        self.skipped = tuple(name for name in store.names if name.startswith(_PREDICTORS))
        found = [name for name in store.names if not name.startswith(_PREDICTORS)]
        _check_names(found, names.values(), _allowed(hp), where)
        self.tensors = {
            name: self._stored(name, names[name], shape, quantize, where)
            for name, shape in architecture.tensor_shapes(hp).items()
        }

    def _stored(
        self, name: str, source: str, shape: tuple[int, ...], quantize: str | None, where: str
    ) -> StoredTensor:
        found = self._store.tensor(source)
        theirs = outward_shape(name, shape)
        if found.shape != theirs:
            raise MalformedError(
                f"{where}: tensor {source} must be {list(theirs)}, found {list(found.shape)}"
            )
        is_plain = len(shape) == 1 or is_filter(name)
        storage = BY_NAME["f32" if is_plain else quantize or found.dtype]
        if shape[-1] % storage.block and storage.name in FALLBACKS:
            storage = BY_NAME[FALLBACKS[storage.name]]
        if shape[-1] % storage.block:
            raise UsageError(
                f"{where}: rows of {source} must be multiples of {storage.block} to be stored as "
                f"{storage.name}, found {shape[-1]}; leave --quantize out"
            )
        return StoredTensor(name, source, shape, storage)

    def digest(self) -> str:
        """SHA-256, in hex, over numbers, names, shapes and types."""
        lines = [repr(self._hp), *(f"{t.name} {t.shape} {t.storage.name}" for t in self.tensors.values())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def rows(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """The bytes of rows [first, first + count) of tensor `name`, in its storage type."""
        tensor = self.tensors[name]
        values = self._translated(tensor)[first : first + count]
        found = self._store.tensor(tensor.source)
        if tensor.storage.name in (found.dtype, "f32"):
            return _bytes_of(values)
        return _quantized(values, found.dtype, tensor.storage)

    def drop_rows(self, name: str, first: int, count: int) -> None:
        """Let go of as many bytes of tensor `name`, in its file, as these rows have there."""
        tensor = self.tensors[name]
        found = self._store.tensor(tensor.source)
        row_bytes = found.n_bytes // tensor.shape[0]
        self._store.drop(tensor.source, first * row_bytes, count * row_bytes)

    def _translated(self, tensor: StoredTensor) -> Array:
        """All of a tensor in GGUF's conventions: f32, or as it is stored; perhaps a view."""
        found = self._store.tensor(tensor.source)
        values: Array = self._store.raw(tensor.source).view(_CARRIERS[found.dtype]).reshape(found.shape)
        if tensor.storage.name == "f32":
            values = _as_f32(values, found.dtype)
        return self._family.from_huggingface(self._hp, {tensor.source: values})[tensor.name]


def _allowed(hp: HyperParameters) -> set[str]:
    """Names that a folder may have besides those of the model: a head, where it is the embedding."""
    family = find_outward(hp.arch)
    assert family is not None
    return set(family.huggingface_names(replace(hp, tied=False)).values())


def _check_names(found: Sequence[str], wanted: Any, allowed: set[str], where: str) -> None:
    there = set(found)
    missing = next((name for name in wanted if name not in there), None)
    if missing is not None:
        raise MalformedError(f"{where}: tensor {missing} is required, the model has none")
    extra = next((name for name in found if name not in allowed and not name.endswith(_BUFFERS)), None)
    if extra is not None:
        raise UnsupportedError(f"{where}: tensor {shown(extra)} belongs to a variant that ck does not have")


def _as_f32(values: Array, dtype: str) -> NDArray[np.float32]:
    if dtype == "bf16":
        return (np.ascontiguousarray(values).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)


def _bytes_of(values: Array) -> NDArray[np.uint8]:
    """The bytes of an array: a view where it lies row after row and aligned, as kernels read it."""
    return np.require(values, requirements=["C", "A"]).reshape(-1).view(np.uint8)


def _quantized(values: Array, dtype: str, storage: StorageType) -> NDArray[np.uint8]:
    """Rows of floats as blocks of `storage`, a few at a time."""
    blocks = np.empty((len(values), storage.row_bytes(values.shape[1])), np.uint8)
    for start in range(0, len(values), _ROWS_AT_A_TIME):
        part = values[start : start + _ROWS_AT_A_TIME]
        blocks[start : start + len(part)] = quantize_rows(_as_f32(part, dtype), storage)
    return blocks.reshape(-1)
