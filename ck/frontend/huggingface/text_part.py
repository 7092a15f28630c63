"""The language model within a model that sees: its part of config.json, its tensors under their own names.

transformers keeps such a model's text numbers in `text_config`, and its language model's tensors under
`model.language_model.`, next to the head; what else there is belongs to pictures.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.frontend.architectures.outward.config import ConfigReader
from ck.frontend.huggingface.safetensors import FloatTensor
from ck.frontend.huggingface.shards import TensorStore

_NESTED, _OWN, _HEAD = "model.language_model.", "model.", "lm_head."


def sees(config: ConfigReader) -> bool:
    """Whether config.json describes a language model within another."""
    return config.get("text_config") is not None


def text_config(config: ConfigReader) -> ConfigReader:
    """The fields of the language model. Raises MalformedError."""
    fields: dict[str, Any] = {**config.mapping("text_config")}
    # The whole model ties its head, or does not.
    fields["tie_word_embeddings"] = config.fields.get("tie_word_embeddings", False)
    return ConfigReader(fields, f"{config.where} text_config")


class TextPart:
    """The tensors of the language model in `store`; `others` are the names of the rest."""

    def __init__(self, store: TensorStore) -> None:
        self._store = store
        self._theirs: Mapping[str, str] = {
            _OWN + name.removeprefix(_NESTED) if name.startswith(_NESTED) else name: name
            for name in store.names
            if name.startswith((_NESTED, _HEAD))
        }
        kept = set(self._theirs.values())
        self.others = tuple(name for name in store.names if name not in kept)

    @property
    def names(self) -> list[str]:
        """Of the language model's tensors."""
        return list(self._theirs)

    def tensor(self, name: str) -> FloatTensor:
        """Type and shape. Raises UnsupportedError for a type that ck does not read."""
        return self._store.tensor(self._theirs[name])

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The bytes, row after row, read only."""
        return self._store.raw(self._theirs[name])

    def drop(self, name: str, start: int, n_bytes: int) -> None:
        """Let go of the resident pages of a part of a tensor."""
        self._store.drop(self._theirs[name], start, n_bytes)
