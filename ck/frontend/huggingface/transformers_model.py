"""`TransformersModel`: what a folder and a live object have in common as a `ModelFile`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError
from ck.frontend.architectures.outward import family_of_config, find_outward
from ck.frontend.architectures.outward.config import ConfigReader, written
from ck.frontend.huggingface.shards import TensorStore
from ck.frontend.huggingface.stored import StoredTensor, StoredTensors, quantized_type
from ck.frontend.huggingface.text_part import TextPart, sees, text_config
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model_file import Words

if TYPE_CHECKING:
    from ck.frontend.tokenizer import Tokenizer

EMBEDDING = "token_embd.weight"


class TransformersModel(ABC):
    """The model that `config` describes, its tensors in `store`, matrices stored as `quantize` unless None.

    Errors speak of `where`, those about a field of `config_where`. Raises MalformedError when they do not fit
    together, UnsupportedError for a model that ck does not have, UsageError for a wrong `quantize`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        config_where: str,
        store: TensorStore,
        quantize: str | None,
        where: str,
    ) -> None:
        self._quantize = quantized_type(quantize)
        reader = ConfigReader(config, config_where)
        reader.refuse("quantization_config")
        family = find_outward(family_of_config(reader))
        assert family is not None
        part = TextPart(store) if sees(reader) else None
        self._hp = family.from_huggingface_config(reader if part is None else text_config(reader))
        self._stored = StoredTensors(part or store, self._hp, self._quantize, where)
        self._others = part.others if part else ()

    @property
    def skipped(self) -> tuple[str, ...]:
        """transformers' names of the tensors that ck does without."""
        return (*self._others, *self._stored.skipped)

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """By GGUF's names."""
        return self._stored.tensors

    @property
    def licence(self) -> str | None:
        """None: config.json states none."""
        return None

    @property
    def label(self) -> str:
        """Architecture and the type of the embedding."""
        return f"{self._hp.arch} {self.tensors[EMBEDDING].storage.name.upper()}"

    def hyperparameters(self) -> HyperParameters:
        """The numbers, which were checked against the tensors."""
        return self._hp

    @abstractmethod
    def tokenizer(self) -> "Tokenizer":
        """A fresh tokenizer. Raises MalformedError, UnsupportedError, UsageError when there is none."""

    @property
    @abstractmethod
    def has_tokenizer(self) -> bool:
        """Whether there is one to be made."""

    def words(self) -> Words | None:
        """The tokenizer in short; None when there is none. Raises MalformedError, UnsupportedError."""
        if not self.has_tokenizer:
            return None
        from ck.frontend.huggingface.tokenizer import words_of

        return words_of(self.tokenizer())

    def rows(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """The bytes of some rows, as a GGUF file would have them."""
        return self._stored.rows(name, first, count)

    def drop_rows(self, name: str, first: int, count: int) -> None:
        """Let go of the resident pages of some rows."""
        self._stored.drop_rows(name, first, count)

    def header_digest(self) -> str:
        """SHA-256, in hex, over numbers, names, shapes and storage types."""
        return self._stored.digest()


def end_ids(value: Any, where: str) -> tuple[int, ...]:
    """`eos_token_id` of a config: null, an id or a list of them. Raises MalformedError for anything else."""
    found = cast(list[Any], value) if isinstance(value, list) else [] if value is None else [value]
    wrong = next((token for token in found if type(token) is not int), None)
    if wrong is not None or None in found:
        raise MalformedError(f"{where}: eos_token_id must be whole numbers, found {written(wrong)}")
    return tuple(found)


def template_text(value: Any, where: str) -> str | None:
    """A chat template, a text or a list of named ones, of which the one called default counts.

    Raises MalformedError for anything else.
    """
    if isinstance(value, list):
        entries = (cast(Mapping[str, Any], e) for e in cast(list[Any], value) if isinstance(e, Mapping))
        by_name = {str(entry.get("name")): entry.get("template") for entry in entries}
        value = by_name.get("default")
    if value is not None and not isinstance(value, str):
        raise MalformedError(f"{where}: chat_template must be a text, found {written(value)}")
    return value
