"""`open_model`: a model file or a model folder, its family, its numbers, its tensors checked together."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ck.errors import UsageError
from ck.frontend.architectures import ARCHITECTURES, Architecture, find_architecture
from ck.frontend.gguf import GgufParts, part_names
from ck.frontend.gguf.cursor import shown
from ck.frontend.gguf.label import model_label
from ck.frontend.hyperparameters import FACTOR_RANGE, VOCAB_LIMIT, HyperParameters
from ck.frontend.model_file import ModelFile, Words
from ck.frontend.rope import DIVISORS, YARN
from ck.frontend.sampling_defaults import SamplingDefaults, read_gguf_sampling

if TYPE_CHECKING:
    from ck.frontend.tokenizer import Tokenizer

EMBEDDING = "token_embd.weight"
HEAD = "output.weight"


@dataclass(frozen=True)
class ModelSource:
    """A checked model. `architecture` is the family's module; `hp` its numbers."""

    file: ModelFile
    hp: HyperParameters
    architecture: Architecture


class GgufModel(GgufParts):
    """A GGUF file, or the parts of one, as a `ModelFile`."""

    @property
    def name(self) -> str:
        """What the file calls itself, else the file's name without its ending."""
        return self.metadata.text("general.name", self.stem)

    @property
    def licence(self) -> str | None:
        """general.license."""
        key = "general.license"
        return self.metadata.text(key) if key in self.metadata else None

    @property
    def label(self) -> str:
        """Architecture, size and file type in one line."""
        return model_label(self.metadata)

    @property
    def skipped(self) -> tuple[str, ...]:
        """The tensors of blocks that predict further tokens, which lie behind the model's own."""
        arch = self.metadata.text("general.architecture")
        n_skipped = self.metadata.integer(f"{arch}.nextn_predict_layers", 0)
        if n_skipped < 1:
            return ()
        first = self.metadata.integer(f"{arch}.block_count") - n_skipped
        return tuple(name for name in self.tensors if _block(name) >= first)

    @property
    def chat_template(self) -> str | None:
        """The source of the chat template; None for a base model."""
        key = "tokenizer.chat_template"
        return self.metadata.text(key) if key in self.metadata else None

    @property
    def sampling(self) -> SamplingDefaults | None:
        """general.sampling.*"""
        return read_gguf_sampling(self.metadata, shown(self.path.name))

    def hyperparameters(self) -> HyperParameters:
        """The header's numbers, checked against its tensors. Raises MalformedError, UnsupportedError."""
        name = self.metadata.text("general.architecture")
        architecture = find_architecture(name)
        if architecture is None:
            known = ", ".join(ARCHITECTURES)
            raise self.metadata.unsupported(f"the architecture must be one of {known}, found {shown(name)}")
        tied = HEAD not in self.tensors
        hp = architecture.read_hyperparameters(self.metadata, _n_vocab(self), tied)
        hp = _with_divisors(self, hp)
        _check_tensors(self, architecture.tensor_shapes(hp))
        return hp

    def tokenizer(self) -> "Tokenizer":
        """The tokenizer of the header. Raises MalformedError, UnsupportedError."""
        from ck.frontend.tokenizer import Tokenizer

        return Tokenizer.from_gguf(self)

    def words(self) -> Words:
        """The vocabulary in short, without making a tokenizer of it."""
        from ck.frontend.vocabulary import read_vocabulary

        found = read_vocabulary(self.metadata, _n_vocab(self))
        return Words(
            kind=found.kind,
            pre=found.pre,
            n_tokens=len(found.tokens),
            bos=None if found.bos_id is None else (found.bos_id, found.tokens[found.bos_id]),
            eos=None if found.eos_id is None else (found.eos_id, found.tokens[found.eos_id]),
            eog=tuple((token, found.tokens[token]) for token in sorted(found.eog_ids)),
            add_bos=found.add_bos,
        )

    def record(self) -> dict[str, Any]:
        """What run.json keeps; of a model in parts, the first stands for it, and all are listed."""
        if len(self.parts) == 1:
            path = str(self.path.resolve())
            return {"file": "model.gguf", "path": path, "header_sha256": self.header_digest()}
        # Parts find each other by name, which what a link leads to may not have.
        names = part_names(f"model-00001-of-{len(self.parts):05d}.gguf")
        parts = [
            {"file": name, "path": str(file.path.absolute()), "header_sha256": file.header_digest()}
            for name, file in zip(names, self.parts, strict=True)
        ]
        return {**parts[0], "header_sha256": self.header_digest(), "parts": parts}


def open_file(path: str | os.PathLike[str], quantize: str | None = None) -> ModelFile:
    """The model at `path`, a GGUF file, any part of one, or a folder as transformers saves it, whose matrices
    are stored as `quantize` when that is given.

    Raises UsageError when nothing is there, MalformedError and UnsupportedError as its format has it.
    """
    if Path(path).is_dir():
        from ck.frontend.huggingface.folder import FolderModel

        return FolderModel(Path(path), quantize)
    if quantize is not None:
        raise UsageError(
            f"{shown(Path(path).name)}: must be a model folder to be quantised on load, it is a file; "
            "for a file run: ck quantize IN OUT --type TYPE"
        )
    return GgufModel(path)


def open_model(model: str | os.PathLike[str] | ModelFile) -> ModelSource:
    """A model, or the one at a path, header only: no weight is read.

    Raises UsageError when there is no such file, MalformedError when header, numbers and tensors do not fit
    together, UnsupportedError when they ask for a family, a storage type or a variant that ck does not have.
    """
    file = open_file(model) if isinstance(model, str | os.PathLike) else model
    hp = file.hyperparameters()
    architecture = find_architecture(hp.arch)
    assert architecture is not None
    return ModelSource(file, hp, architecture)


def _n_vocab(file: GgufParts) -> int:
    """Rows of the embedding."""
    tensor = file.tensors.get(EMBEDDING)
    if tensor is None:
        raise file.metadata.error(f"tensor {EMBEDDING} is required, the file has none")
    if not 1 <= tensor.shape[0] <= VOCAB_LIMIT:
        raise file.metadata.error(
            f"tensor {EMBEDDING} must have 1 to {VOCAB_LIMIT} rows, found {tensor.shape[0]}"
        )
    return tensor.shape[0]


def _block(name: str) -> int:
    """The number of the block that a tensor belongs to; -1 for none."""
    found = re.match(r"blk\.(\d{1,9})\.", name)
    return int(found[1]) if found else -1


def _check_tensors(file: GgufModel, shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        tensor = file.tensors.get(name)
        if tensor is None:
            raise file.metadata.error(f"tensor {name} is required, the file has none")
        if tensor.shape != shape:
            raise file.metadata.error(f"tensor {name} must be {list(shape)}, found {list(tensor.shape)}")
        if len(shape) == 1 and tensor.storage.name != "f32":
            found = tensor.storage.name
            raise file.metadata.unsupported(f"tensor {name} must be stored as f32, found {found}")
    known = {*shapes, *file.skipped, DIVISORS}
    extra = next((name for name in file.tensors if name not in known), None)
    if extra is not None:
        raise file.metadata.unsupported(f"tensor {shown(extra)} belongs to a variant that ck does not have")


def _with_divisors(file: GgufParts, hp: HyperParameters) -> HyperParameters:
    """`hp` with what the file's frequencies are divided by, where it has a tensor of that."""
    tensor = file.tensors.get(DIVISORS)
    if tensor is None:
        return hp
    if tensor.shape != (hp.rope_dims // 2,):
        raise file.metadata.error(
            f"tensor {DIVISORS} must be [{hp.rope_dims // 2}], found {list(tensor.shape)}"
        )
    if tensor.storage.name != "f32" or hp.rope_scaling == YARN:
        raise file.metadata.unsupported(
            f"tensor {DIVISORS} must be stored as f32 and scale alone, found {tensor.storage.name} and "
            f"{hp.rope_scaling}"
        )
    values = file.raw(DIVISORS).view(np.float32)
    low, high = FACTOR_RANGE
    if not ((values >= low) & (values <= high)).all():
        raise file.metadata.error(f"tensor {DIVISORS} must hold numbers from {low} to {high}, found others")
    divisors: list[float] = values.tolist()
    return replace(hp, rope_divisors=tuple(divisors) if set(divisors) != {1.0} else ())
