"""What every export asks of its model and of the place it is written to."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.errors import ConflictError, MachineError, MalformedError, UnsupportedError, UsageError
from ck.frontend.architectures import find_architecture
from ck.frontend.architectures.outward import Outward, find_outward
from ck.frontend.gguf import part_names
from ck.frontend.hyperparameters import HyperParameters

# By GGUF name, in GGUF conventions. A mapping may make them when asked.
Weights = Mapping[str, NDArray[np.float32]]


def outward_of(hp: HyperParameters) -> Outward:
    """The outward side of the model's family."""
    found = find_outward(hp.arch)
    if found is None:
        raise UnsupportedError(f"{hp.arch}: ck has no export of this family")
    return found


def checked_shapes(
    hp: HyperParameters, weights: Weights, vocabulary: Mapping[str, Any] | None
) -> dict[str, tuple[int, ...]]:
    """The tensors of the model and their shapes.

    Raises MalformedError unless `weights` has just those and `vocabulary`, if there is one, a token for each
    row of the embedding.
    """
    architecture = find_architecture(hp.arch)
    if architecture is None:
        raise UnsupportedError(f"{hp.arch}: ck has no such family")
    shapes = architecture.tensor_shapes(hp)
    if weights.keys() != shapes.keys():
        odd = min(weights.keys() ^ shapes.keys())
        state = "must be no tensor" if odd in weights else "must be a tensor"
        raise MalformedError(f"{odd}: {state} of the model, found {len(weights)} of {len(shapes)}")
    if vocabulary is None:
        return shapes
    n_tokens = len(vocabulary["tokenizer.ggml.tokens"])
    if n_tokens != hp.n_vocab:
        raise MalformedError(
            f"tokenizer: must have {hp.n_vocab} tokens, one a row of the embedding, found {n_tokens}"
        )
    return shapes


def checked_tensor(weights: Weights, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The values of tensor `name`. Raises MalformedError unless they are finite and of the shape."""
    values = np.ascontiguousarray(weights[name], np.float32)
    if values.shape != shape:
        raise MalformedError(f"{name}: must be {list(shape)}, found {list(values.shape)}")
    if not np.isfinite(values).all():
        raise MalformedError(f"{name}: must hold finite numbers only, found others")
    return values


def check_parent(path: Path) -> None:
    """Raise UsageError unless `path` lies in a directory."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: must lie in a directory that exists, found no {path.parent}")


def files_of(model: Path) -> list[Path]:
    """The files that the model at a path, a file, a part of one or a folder, is read from."""
    if model.is_dir():
        return sorted(model.iterdir())
    return [model.with_name(name) for name in part_names(model.name)]


def check_place(path: Path, *, force: bool, sources: Iterable[Path] = ()) -> None:
    """Raise unless a file may be written at `path`, which is none of its `sources`.

    UsageError: it is one, is a directory or a device, or lies in no directory. ConflictError: a file is
    there, and not `force`. MachineError: the directory is read-only.
    """
    check_parent(path)
    if any(path.exists() and source.exists() and path.samefile(source) for source in sources):
        raise UsageError(f"{path}: must be another file than what is read; choose another name")
    if os.path.lexists(path) and not force:
        raise ConflictError(f"{path}: must be a new file, found one; choose another name, or give --force")
    # A directory takes no file's place, and a device would be replaced by a file.
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: must be a plain file to be replaced, found something else")
    # Known before what may take hours.
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise MachineError(f"{path}: must lie in a directory that can be written, {path.parent} can not")
