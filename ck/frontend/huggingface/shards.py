"""`ShardedTensors`: the tensors of a model folder, in one safetensors file or in those an index names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError, UnsupportedError
from ck.frontend.architectures.outward.config import written
from ck.frontend.gguf.cursor import shown
from ck.frontend.huggingface.config_files import INDEX_LIMIT_BYTES, named, read_object
from ck.frontend.huggingface.safetensors import FloatTensor, SafetensorsFile

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# What transformers saved before safetensors, and saves when asked to: programs that run when they are read.
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth")
_SHARD_LIMIT = 4096


class TensorStore(Protocol):
    """Tensors under transformers' names, in its conventions."""

    @property
    def names(self) -> list[str]: ...

    def tensor(self, name: str) -> FloatTensor:
        """Type and shape. Raises UnsupportedError for a type that ck does not read."""
        ...

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The bytes, row after row, read only."""
        ...

    def drop(self, name: str, start: int, n_bytes: int) -> None:
        """Let go of the resident pages of a tensor's bytes [start, start + n_bytes)."""
        ...


class ShardedTensors:
    """The tensors of the folder at `path`.

    Raises MalformedError when a file breaks its format or the index and the files disagree, UnsupportedError
    when the weights are no safetensors, UsageError when a file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.files = {name: SafetensorsFile(path / name) for name in _shards(path)}
        self._file_of: dict[str, SafetensorsFile] = {}
        for file in self.files.values():
            for name in file.names:
                if name in self._file_of:
                    other = self._file_of[name].path.name
                    raise MalformedError(
                        f"{named(file.path)}: tensor {shown(name)} must be in one file, {other} has it too"
                    )
                self._file_of[name] = file

    @property
    def names(self) -> list[str]:
        """Of all tensors."""
        return list(self._file_of)

    def tensor(self, name: str) -> FloatTensor:
        """Type, shape and place in its file. Raises UnsupportedError, MalformedError."""
        return self._file_of[name].tensor(name)

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The stored bytes: a read-only view."""
        return self._file_of[name].raw(name)

    def drop(self, name: str, start: int, n_bytes: int) -> None:
        """Let go of the resident pages of a part of a tensor."""
        file = self._file_of[name]
        file.drop_pages(file.tensor(name).offset + start, n_bytes)


def _shards(path: Path) -> list[str]:
    """The names of the files with tensors. As transformers does, one whole file counts before an index."""
    if os.path.lexists(path / WHOLE):
        return [WHOLE]
    if os.path.lexists(path / INDEX):
        return _indexed(path)
    pickle = next((name for name in _PICKLES if os.path.lexists(path / name)), None)
    if pickle is not None:
        raise UnsupportedError(
            f"{shown(path.name)}: weights must be safetensors, found {pickle}, a pickle, which runs code when"
            " it is read; load the model with transformers and save_pretrained it"
        )
    raise MalformedError(f"{shown(path.name)}: must have {WHOLE} or {INDEX}, it has neither")


def _indexed(path: Path) -> list[str]:
    """The files that the index names, each in the folder itself, and checked to have what it says."""
    index = path / INDEX
    files: Any = read_object(index, INDEX_LIMIT_BYTES).get("weight_map")
    if not isinstance(files, dict):
        raise MalformedError(f"{named(index)}: weight_map must be an object, found {written(files)}")
    shards = list(dict.fromkeys(map(str, cast(Mapping[str, Any], files).values())))
    for name in shards:
        # A folder may come from anywhere: its index names a neighbour, never a path.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise MalformedError(
                f"{named(index)}: weight_map must name safetensors files of the folder, found {shown(name)}"
            )
    if not 1 <= len(shards) <= _SHARD_LIMIT:
        raise MalformedError(
            f"{named(index)}: weight_map must name 1 to {_SHARD_LIMIT} files, found {len(shards)}"
        )
    missing = next((name for name in shards if not (path / name).is_file()), None)
    if missing is not None:
        raise MalformedError(
            f"{named(index)}: weight_map names {shown(missing)}, which is not there; download it again"
        )
    return shards
