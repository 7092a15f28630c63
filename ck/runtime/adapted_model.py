"""`AdaptedModel`: a model with an adapter in it, as a `ModelFile`: W + (alpha / r) B A where it has one.

Weights that the adapter changes are f32 then, whatever the model stores them as; all others stay.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ck.dtypes import BY_NAME, StorageType
from ck.frontend.adapters import names_of
from ck.frontend.huggingface.peft import read_adapter
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model_file import ModelFile, TensorInfo, Words
from ck.frontend.sampling_defaults import SamplingDefaults
from ck.runtime.weights import dequantize

if TYPE_CHECKING:
    from ck.frontend.tokenizer import Tokenizer


@dataclass(frozen=True)
class MergedTensor:
    """One tensor that an adapter changes."""

    name: str
    shape: tuple[int, ...]
    storage: StorageType

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        return self.storage.row_bytes(self.shape[-1]) * self.shape[0]


class AdaptedModel:
    """The model `file` with the adapter in `folder`. Raises as `read_adapter` does."""

    def __init__(self, file: ModelFile, folder: Path) -> None:
        self._file, self._folder, self._hp = file, folder, file.hyperparameters()
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        self._stored = read_adapter(folder, self._hp, shapes)
        merged = {
            name: MergedTensor(name, shapes[name], BY_NAME["f32"]) for name in self._stored.adapters.weights
        }
        self.tensors: Mapping[str, TensorInfo] = {**file.tensors, **merged}
        self.path, self.name, self.licence, self.label = file.path, file.name, file.licence, file.label

    @property
    def skipped(self) -> tuple[str, ...]:
        """Tensors of the model that ck leaves out."""
        return getattr(self._file, "skipped", ())

    @property
    def chat_template(self) -> str | None:
        """The model's."""
        return self._file.chat_template

    @property
    def sampling(self) -> SamplingDefaults | None:
        """The model's."""
        return self._file.sampling

    def hyperparameters(self) -> HyperParameters:
        """The model's."""
        return self._hp

    def tokenizer(self) -> "Tokenizer":
        """The model's."""
        return self._file.tokenizer()

    def words(self) -> Words | None:
        """The model's."""
        return self._file.words()

    def rows(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """The bytes of some rows; with what the adapter adds, where it has something for them."""
        raw = self._file.rows(name, first, count)
        adapters = self._stored.adapters
        if name not in adapters.weights:
            return raw
        a, b = (self._stored.tensors[side] for side in names_of(name))
        values = np.empty((count, a.shape[1]), np.float32)
        dequantize(self._file.tensors[name].storage.name, raw, values)
        values += adapters.product(a, b[first : first + count])
        return values.reshape(-1).view(np.uint8)

    def drop_rows(self, name: str, first: int, count: int) -> None:
        """Let go of the model's resident pages of some rows."""
        self._file.drop_rows(name, first, count)

    def drop_header_pages(self) -> None:
        """The same for everything but the tensors."""
        self._file.drop_header_pages()

    def header_digest(self) -> str:
        """SHA-256, in hex, over model and adapter."""
        return hashlib.sha256(f"{self._file.header_digest()} {self._stored.sha256}".encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What run.json keeps: no link, the model is no one file."""
        adapter = {"path": str(self._folder.resolve()), "sha256": self._stored.sha256}
        return {
            **self._file.record(),
            "file": None,
            "header_sha256": self.header_digest(),
            "adapter": adapter,
        }
