"""The model that a run begins with: its numbers, weights and tokenizer.

    run.json: base         {path, header_sha256}: where the model is, and which it was

A run that trains all weights needs the model no more once it has begun: what base_side.py keeps of it is
enough. One with adapters reads it whenever it goes on, and takes no other in its place.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError, UsageError
from ck.frontend.decays import with_decays
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model import open_file, open_model
from ck.frontend.model_file import ModelFile
from ck.runtime.hub_cache import source_record
from ck.runtime.resolve import resolve_model
from ck.train.base_side import keep_side
from ck.train.export.source import StoredWeights
from ck.train.model_tokenizer import ModelTokenizer
from ck.train.rundir import RunDirectory, read_json


@dataclass(frozen=True)
class Base:
    """A model that a run begins with. weights: under GGUF names, dequantised when asked for."""

    file: ModelFile
    hp: HyperParameters
    weights: Mapping[str, NDArray[np.float32]]

    def record(self) -> dict[str, Any]:
        """What run.json keeps: where it is, and which it was."""
        known = {name: self.file.record()[name] for name in ("path", "header_sha256")}
        return {**known, **source_record(self.file.path)}

    def tokenizer(self) -> ModelTokenizer:
        """The model's tokenizer. Raises UsageError when it has none."""
        return ModelTokenizer(self.file.tokenizer(), self.file.name)

    def keep_side(self, run: RunDirectory) -> None:
        """Leave the tokenizer's part of the model in the run's directory."""
        keep_side(self.file, self.hp, run.path)


def open_base(argument: str) -> Base:
    """The model that `--from` means: a file, a folder, a run directory or a name.

    Raises UsageError when there is none, MalformedError and UnsupportedError as its format has it.
    """
    source = open_model(open_file(resolve_model(argument)))
    # Decays are trained as logarithms.
    hp, weights = with_decays(source.hp, StoredWeights(source.file), logarithms=True)
    return Base(source.file, hp, weights)


def reopen_base(run: Path) -> Base:
    """The model that a run began with, where it was then.

    Raises UsageError when it is gone, and when another one is there now.
    """
    where = run / "run.json"
    record: Any = read_json(where).get("base")
    known = cast("dict[str, Any]", record) if isinstance(record, dict) else {}
    path, wanted = known.get("path"), known.get("header_sha256")
    if not isinstance(path, str) or not isinstance(wanted, str):
        raise MalformedError(f"{where}: base must be an object with path and header_sha256, found another")
    if not os.path.exists(path):
        raise UsageError(f"{run}: needs the model that it began with, there is no {path}")
    base = open_base(path)
    found = base.record()["header_sha256"]
    if found != wanted:
        raise UsageError(
            f"{path}: must be the model that {run} began with, header {wanted[:12]}, found {found[:12]}"
        )
    return base
