"""`open_model`: a GGUF file as a model: its family, its numbers, its tensors, checked against each other."""

import os
from dataclasses import dataclass, replace

import numpy as np

from ck.frontend.architectures import ARCHITECTURES, Architecture, find_architecture
from ck.frontend.gguf import GgufFile
from ck.frontend.gguf.cursor import shown
from ck.frontend.hyperparameters import VOCAB_LIMIT, HyperParameters
from ck.frontend.rope import DIVISORS, YARN

EMBEDDING = "token_embd.weight"
HEAD = "output.weight"


@dataclass(frozen=True)
class ModelSource:
    """A checked model file. `architecture` is the family's module; `hp` its numbers."""

    file: GgufFile
    hp: HyperParameters
    architecture: Architecture

    @property
    def name(self) -> str:
        """What the file calls itself, else the file's name."""
        key = "general.name"
        return self.file.metadata.text(key) if key in self.file.metadata else self.file.path.stem

    @property
    def chat_template(self) -> str | None:
        """The source of the chat template; None for a base model."""
        key = "tokenizer.chat_template"
        return self.file.metadata.text(key) if key in self.file.metadata else None


def open_model(path: str | os.PathLike[str]) -> ModelSource:
    """The model in the GGUF file at `path`, header only: no weight is read.

    Raises UsageError when there is no such file, MalformedError when header, numbers and tensors do not fit
    together, UnsupportedError when they ask for a family, a storage type or a variant that ck does not have.
    """
    file = GgufFile(path)
    name = file.metadata.text("general.architecture")
    architecture = find_architecture(name)
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise file.metadata.unsupported(f"the architecture must be one of {known}, found {shown(name)}")
    hp = architecture.read_hyperparameters(file.metadata, _n_vocab(file), HEAD not in file.tensors)
    hp = _with_divisors(file, hp)
    _check_tensors(file, architecture.tensor_shapes(hp))
    return ModelSource(file, hp, architecture)


def _n_vocab(file: GgufFile) -> int:
    """Rows of the embedding."""
    tensor = file.tensors.get(EMBEDDING)
    if tensor is None:
        raise file.metadata.error(f"tensor {EMBEDDING} is required, the file has none")
    if not 1 <= tensor.shape[0] <= VOCAB_LIMIT:
        raise file.metadata.error(
            f"tensor {EMBEDDING} must have 1 to {VOCAB_LIMIT} rows, found {tensor.shape[0]}"
        )
    return tensor.shape[0]


def _check_tensors(file: GgufFile, shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        tensor = file.tensors.get(name)
        if tensor is None:
            raise file.metadata.error(f"tensor {name} is required, the file has none")
        if tensor.shape != shape:
            raise file.metadata.error(f"tensor {name} must be {list(shape)}, found {list(tensor.shape)}")
        if len(shape) == 1 and tensor.storage.name != "f32":
            found = tensor.storage.name
            raise file.metadata.unsupported(f"tensor {name} must be stored as f32, found {found}")
    extra = next((name for name in file.tensors if name not in shapes and name != DIVISORS), None)
    if extra is not None:
        raise file.metadata.unsupported(f"tensor {shown(extra)} belongs to a variant that ck does not have")


def _with_divisors(file: GgufFile, hp: HyperParameters) -> HyperParameters:
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
    if not (np.isfinite(values) & (values > 0)).all():
        raise file.metadata.error(f"tensor {DIVISORS} must hold finite numbers above 0, found others")
    divisors: list[float] = values.tolist()
    return replace(hp, rope_divisors=tuple(divisors) if set(divisors) != {1.0} else ())
