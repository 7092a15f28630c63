"""The tokenizer of a model that is fine-tuned, as training reads documents with it.

Texts are cut into tokens as the model's own tokenizer does it, control tokens wherever their texts stand: a
text that was made with the model's chat template has them. Before each document stands the token that the
vocabulary calls <|endoftext|>, else BOS where the model begins texts with it, else EOS.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ck.errors import UnsupportedError
from ck.frontend.tokenizer import Tokenizer
from ck.train.files import replacing
from ck.train.tokenizer_training import END_OF_TEXT


class DocumentTokenizer(Protocol):
    """What training asks of a tokenizer: `TrainingTokenizer`, or `ModelTokenizer`.

    n_vocab       V
    end_id        stands before every document
    sha256        of its tokenizer.json
    is_exact      whether tokens stand for all bytes of a text, so that they can be counted
    token_bytes   [V] i32, the bytes of text that each token stands for; 0 for `end_id`
    """

    @property
    def n_vocab(self) -> int: ...
    @property
    def end_id(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def is_exact(self) -> bool: ...
    @property
    def token_bytes(self) -> NDArray[np.int32]: ...

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids of a document [T], without `end_id` before it."""
        ...

    def decode(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """The text of `ids`."""
        ...

    def save(self, path: Path) -> None:
        """Write tokenizer.json at `path`, whole or not at all."""
        ...


class ModelTokenizer:
    """A model's own tokenizer as a `DocumentTokenizer`.

    json_text   its tokenizer.json
    """

    is_exact = False

    def __init__(self, tokenizer: Tokenizer, where: str) -> None:
        """`where` is the model that errors speak of. Raises UnsupportedError for one that has no end."""
        self._tokenizer = tokenizer
        self.n_vocab = tokenizer.n_vocab
        self.json_text = tokenizer.to_json()
        self.sha256 = hashlib.sha256(self.json_text.encode()).hexdigest()
        self.end_id = _document_start(tokenizer, where)
        pieces = (tokenizer.piece(token) for token in range(self.n_vocab))
        self.token_bytes = np.array([len(piece) for piece in pieces], np.int32)
        self.token_bytes[self.end_id] = 0

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids of a document [T]. Raises ResourceError when it has more than 16 MiB."""
        return np.array(self._tokenizer.encode(text, add_special=False, parse_special=True), np.int32)

    def decode(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """The text of `ids`, control tokens included."""
        return self._tokenizer.decode(list(map(int, ids)))

    def save(self, path: Path) -> None:
        """Write tokenizer.json at `path`, whole or not at all."""
        with replacing(path) as file:
            file.write(self.json_text.encode())


def _document_start(tokenizer: Tokenizer, where: str) -> int:
    named = tokenizer.encode(END_OF_TEXT, add_special=False, parse_special=True)
    if len(named) == 1:
        return named[0]
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    found = bos if tokenizer.add_bos and bos is not None else eos
    if found is None:
        raise UnsupportedError(f"{where}: must have {END_OF_TEXT}, BOS or EOS to part documents, has none")
    return found
