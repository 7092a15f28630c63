"""`ModelFile`: what the rest of ck wants of a model, wherever it lies and whatever its format.

Tensors have GGUF's names, shapes and conventions: a format that differs translates when it is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ck.dtypes import StorageType
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.sampling_defaults import SamplingDefaults

if TYPE_CHECKING:
    from ck.frontend.tokenizer import Tokenizer


class TensorInfo(Protocol):
    """One tensor. `shape` outermost first: [out, in] for a matrix."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def storage(self) -> StorageType: ...
    @property
    def n_bytes(self) -> int: ...


@dataclass(frozen=True)
class Words:
    """A tokenizer in short: kind "byte_pairs" or "pieces", pre-tokenizer, special tokens as (id, text)."""

    kind: str
    pre: str
    n_tokens: int
    bos: tuple[int, str] | None
    eos: tuple[int, str] | None
    eog: tuple[tuple[int, str], ...]
    add_bos: bool


class ModelFile(Protocol):
    """A model.

    path       where it lies; None for one in memory
    tensors    by name
    name       what the model calls itself
    licence    as it states it; None when it does not
    label      architecture, size and kind of the file in one line, for tables
    skipped    names, as the file has them, of tensors that ck does without
    """

    @property
    def path(self) -> Path | None: ...
    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    @property
    def name(self) -> str: ...
    @property
    def licence(self) -> str | None: ...
    @property
    def label(self) -> str: ...
    @property
    def skipped(self) -> tuple[str, ...]: ...

    @property
    def chat_template(self) -> str | None:
        """The source of the chat template; None for a base model."""
        ...

    @property
    def sampling(self) -> SamplingDefaults | None:
        """How it wants its tokens drawn; None when it says nothing. Raises MalformedError."""
        ...

    def hyperparameters(self) -> HyperParameters:
        """The model's numbers, checked against its tensors; no tensor's data is read.

        Raises MalformedError when they do not fit together, UnsupportedError when they ask for a family, a
        storage type or a variant that ck does not have.
        """
        ...

    def tokenizer(self) -> "Tokenizer":
        """A fresh tokenizer. Raises MalformedError, UnsupportedError, UsageError when there is none."""
        ...

    def words(self) -> Words | None:
        """The tokenizer in short; None when there is none. Raises as `tokenizer`."""
        ...

    def rows(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """The bytes of rows [first, first + count) of tensor `name`, as its storage type has them, read only.

        A vector's rows are its elements.
        """
        ...

    def drop_rows(self, name: str, first: int, count: int) -> None:
        """Let go of resident pages of these rows; reading them again brings them back."""
        ...

    def drop_header_pages(self) -> None:
        """The same for everything but the tensors."""
        ...

    def header_digest(self) -> str:
        """SHA-256, in hex, of all that decides the program, and of what tells this model from a newer one."""
        ...

    def record(self) -> dict[str, Any]:
        """What run.json keeps of it.

        "file" is the link to it in a run directory, None for one in memory, and "path" where it leads; of a
        file that was split, each of the "parts" has both.
        """
        ...
