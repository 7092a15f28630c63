"""`FolderModel`: a folder as transformers saves it: config.json, safetensors, tokenizer.json, a template."""

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ck.errors import CkError, UnsupportedError, UsageError
from ck.frontend.gguf.cursor import shown
from ck.frontend.huggingface.config_files import named, read_bytes, read_object, read_optional, read_text
from ck.frontend.huggingface.shards import ShardedTensors
from ck.frontend.huggingface.transformers_model import TransformersModel, end_ids, template_text
from ck.frontend.sampling_defaults import SamplingDefaults, read_generation_sampling

if TYPE_CHECKING:
    from ck.frontend.tokenizer import Tokenizer

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TEMPLATE = "chat_template.jinja"
SETTINGS = "tokenizer_config.json"
GENERATION = "generation_config.json"
TEMPLATE_LIMIT_BYTES = 1 << 20
# Of tokenizers that are not the library's own.
_OTHERS = ("tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


class FolderModel(TransformersModel):
    """The model in the folder at `path`, its matrices stored as `quantize` unless that is None.

    Raises MalformedError when a file breaks its format or files do not fit together, UnsupportedError when
    config.json asks for a model that ck does not have, UsageError when a file cannot be read.
    """

    def __init__(self, path: Path, quantize: str | None = None) -> None:
        self.path = path
        config = read_object(path / CONFIG)
        self._shards = ShardedTensors(path)
        super().__init__(config, named(path / CONFIG), self._shards, quantize, shown(self.name))

    @property
    def name(self) -> str:
        """The folder's name; of a commit in the Hugging Face cache, the name of its repository."""
        path = self.path.absolute()
        is_commit = path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--")
        return path.parent.parent.name.rpartition("--")[2] if is_commit else path.name

    @property
    def chat_template(self) -> str | None:
        """chat_template.jinja, else the template in tokenizer_config.json; None for a base model."""
        file = self.path / TEMPLATE
        if os.path.lexists(file):
            return read_text(file, TEMPLATE_LIMIT_BYTES)
        return template_text(self._settings.get("chat_template"), named(self.path / SETTINGS))

    @property
    def sampling(self) -> SamplingDefaults | None:
        """generation_config.json's."""
        file = self.path / GENERATION
        return read_generation_sampling(read_optional(file), named(file))

    @property
    def has_tokenizer(self) -> bool:
        """Whether there is a tokenizer.json, or another tokenizer's file, which is refused."""
        return any(os.path.lexists(self.path / name) for name in (TOKENIZER, *_OTHERS))

    def tokenizer(self) -> "Tokenizer":
        """The tokenizer of tokenizer.json. Raises MalformedError, UnsupportedError, UsageError for none."""
        if not os.path.lexists(self.path / TOKENIZER):
            raise self._no_tokenizer()
        return folder_tokenizer(self.path, self._hp.n_vocab)

    def _no_tokenizer(self) -> CkError:
        other = next((name for name in _OTHERS if os.path.lexists(self.path / name)), None)
        where = f"{shown(self.name)}: must have {TOKENIZER}"
        if other is None:
            return UsageError(f"{where} for text, it has none")
        hint = "load the tokenizer with transformers and save_pretrained it"
        return UnsupportedError(f"{where}, found only {other}; {hint}")

    @cached_property
    def _settings(self) -> Mapping[str, Any]:
        """tokenizer_config.json, and special_tokens_map.json where that says nothing."""
        return _tokenizer_settings(self.path)

    def drop_header_pages(self) -> None:
        """Let go of the resident pages of headers."""
        for file in self._shards.files.values():
            file.drop_header_pages()

    def header_digest(self) -> str:
        """SHA-256, in hex, of what decides the program and of every file with tensors: no tensor is read."""
        lines = [super().header_digest(), *(" ".join(map(str, file.values())) for file in self._files)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What run.json keeps."""
        return {
            "file": "model",
            "path": str(self.path.resolve()),
            "header_sha256": self.header_digest(),
            "quantize": self._quantize,
            "files": self._files,
        }

    @cached_property
    def _files(self) -> list[dict[str, Any]]:
        """Name, bytes, time and header of every file with tensors."""
        found: list[dict[str, Any]] = []
        for name, file in self._shards.files.items():
            info = (self.path / name).stat()
            found.append(
                {
                    "name": name,
                    "n_bytes": info.st_size,
                    "mtime_ns": info.st_mtime_ns,
                    "header_sha256": file.header_digest(),
                }
            )
        return found


def folder_tokenizer(path: Path, n_vocab: int) -> "Tokenizer":
    """The tokenizer of a model folder, with or without the weights, of a model with `n_vocab` rows.

    Raises MalformedError, UnsupportedError, and UsageError when it has no tokenizer.json.
    """
    from ck.frontend.huggingface import tokenizer as made

    ends = [
        token
        for file in (path / GENERATION, path / CONFIG)
        for token in end_ids(read_optional(file).get("eos_token_id"), named(file))
    ]
    file = path / TOKENIZER
    text = read_bytes(file, made.TOKENIZER_LIMIT_BYTES)
    files = made.TokenizerFiles(text, named(file), _tokenizer_settings(path), tuple(ends))
    return made.make_tokenizer(files, n_vocab)


def _tokenizer_settings(path: Path) -> Mapping[str, Any]:
    return {**read_optional(path / "special_tokens_map.json"), **read_optional(path / SETTINGS)}
