"""What an export is made of: a run's checkpoint, or a GGUF file, as the same five things."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError
from ck.frontend.hyperparameters import (
    CONTEXT_LIMIT,
    HEAD_DIM_LIMIT,
    HEAD_LIMIT,
    LAYER_LIMIT,
    VOCAB_LIMIT,
    WIDTH_LIMIT,
    HyperParameters,
)
from ck.frontend.model import GgufModel, open_model
from ck.frontend.model_file import ModelFile
from ck.frontend.rope import DIVISORS
from ck.runtime.resolve import run_directory
from ck.runtime.weights import read_tensor
from ck.train.checkpoints import Checkpoints
from ck.train.export.checks import Weights
from ck.train.rundir import read_json

_LIMITS = {
    "n_layers": LAYER_LIMIT, "d_model": WIDTH_LIMIT, "n_heads": HEAD_LIMIT, "n_kv_heads": HEAD_LIMIT,
    "head_dim": HEAD_DIM_LIMIT, "d_ffn": WIDTH_LIMIT, "n_vocab": VOCAB_LIMIT, "context_length": CONTEXT_LIMIT,
    "rope_dims": HEAD_DIM_LIMIT, "window_pattern": LAYER_LIMIT, "window_first": LAYER_LIMIT,
}  # fmt: skip
_MAY_BE_0 = ("sliding_window", "window_pattern", "window_first", "rope_original_context")


@dataclass(frozen=True)
class ExportSource:
    """A model to export.

    name             what it is called
    step             of the checkpoint; None when there is none
    promoted         the step of the run's model, the one that `ck run` talks to; None before a promotion
    weights          under GGUF names, in GGUF conventions, f32
    vocabulary       the GGUF keys `tokenizer.*`
    tokenizer_json   the text of tokenizer.json
    """

    name: str
    step: int | None
    hp: HyperParameters
    weights: Weights
    vocabulary: Mapping[str, Any]
    tokenizer_json: str
    promoted: int | None = None


def find_run(argument: str) -> Path | None:
    """The directory of the training run that `argument` means, as everywhere; None if it means none.

    A directory may also be that of a compiled program, whose run.json has no hyperparameters.
    """
    directory = run_directory(argument)
    return directory if directory and "hyperparameters" in _record(directory / "run.json") else None


def source_of_run(directory: Path, step: int | None, say: Callable[[str], None]) -> ExportSource:
    """The checkpoint of `step`, else the newest that verifies; `say` is told which were skipped.

    Raises UsageError when there is no such checkpoint, MalformedError for a damaged one and for a run.json
    that does not describe a model.
    """
    from ck.train.tokenizer_training import gguf_vocabulary, load_tokenizer

    record = directory / "run.json"
    hp = read_hyperparameters(_record(record).get("hyperparameters"), str(record))
    checkpoints = Checkpoints(directory)
    checkpoint = checkpoints.load_newest(say) if step is None else checkpoints.load(step)
    path = directory / "tokenizer.json"
    return ExportSource(
        name=directory.absolute().name,
        step=checkpoint.step,
        hp=hp,
        weights=checkpoint.weights,
        vocabulary=gguf_vocabulary(load_tokenizer(path)),
        tokenizer_json=path.read_text("utf-8"),
        promoted=promoted_step(_record(record)),
    )


def promoted_step(record: Mapping[str, Any]) -> int | None:
    """The step that run.json says was promoted; None before the first promotion."""
    try:
        return int(record["model"]["step"])
    except (KeyError, TypeError, ValueError):
        return None


def _record(path: Path) -> dict[str, Any]:
    record: Any = read_json(path)
    if not isinstance(record, dict):
        raise MalformedError(f"{path}: must be a JSON object, found {type(record).__name__}")
    return cast(dict[str, Any], record)


def read_hyperparameters(record: Any, where: str) -> HyperParameters:
    """The numbers that `dataclasses.asdict` made `record` of. Raises MalformedError naming `where`."""
    if not isinstance(record, dict):
        raise MalformedError(f"{where}: hyperparameters must be an object, found {type(record).__name__}")
    values: dict[str, Any] = {}
    for field in fields(HyperParameters):
        if field.name in record:
            read = _numbers if field.name == "rope_divisors" else _number
            values[field.name] = read(field.name, record[field.name], field.type, where)
        elif field.default is MISSING:
            raise MalformedError(f"{where}: hyperparameters must have {field.name}, found none")
    if values["n_heads"] % values["n_kv_heads"]:
        found = values["n_kv_heads"]
        raise MalformedError(f"{where}: n_kv_heads must divide the {values['n_heads']} heads, found {found}")
    return HyperParameters(**values)


def _numbers(name: str, value: Any, wanted: Any, where: str) -> tuple[float, ...]:
    kind = type(value).__name__
    numbers = cast(Sequence[Any], value) if isinstance(value, list | tuple) else None
    if numbers is None or len(numbers) > HEAD_DIM_LIMIT:
        raise MalformedError(f"{where}: {name} must be a list of numbers, found {kind}")
    return tuple(_number(name, each, float, where) for each in numbers)


def _number(name: str, value: Any, wanted: Any, where: str) -> Any:
    if wanted is float and type(value) is int:
        value = float(value)
    low = 0 if name in _MAY_BE_0 else 1
    fits = (
        type(value) is wanted
        and (wanted is not int or low <= value <= _LIMITS.get(name, CONTEXT_LIMIT))
        and (wanted is not float or (math.isfinite(value) and value > 0))
    )
    if not fits:
        raise MalformedError(f"{where}: {name} must be {_RANGES[wanted]}, found {value!r}")
    return value


_RANGES = {
    int: "a whole number in range",
    float: "finite and above 0",
    bool: "true or false",
    str: "a string",
}


class StoredWeights(Mapping[str, NDArray[np.float32]]):
    """The tensors of a model file, dequantised when asked for."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return read_tensor(self._file, name)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._file.tensors if name != DIVISORS)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def source_of_gguf(path: Path) -> ExportSource:
    """The model in a GGUF file, whatever its storage types. Raises what `open_model` raises."""
    file = GgufModel(path)
    return ExportSource(
        name=file.name,
        step=None,
        hp=open_model(file).hp,
        weights=StoredWeights(file),
        vocabulary={key: file.metadata[key] for key in file.metadata if key.startswith("tokenizer.")},
        tokenizer_json=file.tokenizer().to_json(),
    )
