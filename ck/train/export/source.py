"""What an export is made of: a run's checkpoint, or a GGUF file, as the same five things."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError
from ck.frontend.adapters import RANK_LIMIT, Adapters
from ck.frontend.hyperparameters import (
    CONTEXT_LIMIT,
    HEAD_DIM_LIMIT,
    HEAD_LIMIT,
    LAYER_LIMIT,
    TAPS_RANGE,
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
    "n_state_heads": HEAD_LIMIT, "n_state_keys": HEAD_LIMIT, "state_key_dim": HEAD_DIM_LIMIT,
    "state_value_dim": HEAD_DIM_LIMIT, "conv_taps": TAPS_RANGE[1],
}  # fmt: skip
# Of what a model may not have.
_MAY_BE_0 = (
    "sliding_window", "window_pattern", "window_first", "rope_original_context", "n_state_heads",
    "n_state_keys", "state_key_dim", "state_value_dim", "conv_taps",
)  # fmt: skip


@dataclass(frozen=True)
class ExportSource:
    """A model to export.

    name             what it is called
    step             of the checkpoint; None when there is none
    promoted         the step of the run's model, the one that `ck run` talks to; None before a promotion
    weights          under GGUF names, in GGUF conventions, f32
    vocabulary       the GGUF keys `tokenizer.*`; None of a model whose tokenizer came from a folder
    tokenizer_json   the text of tokenizer.json
    side             the folder with what that model has beside its weights, where there is no vocabulary
    adapters         of a run that trains them, with their `tensors`; `weights` have them merged
    base             the model that these adapters are for, as a path
    """

    name: str
    step: int | None
    hp: HyperParameters
    weights: Weights
    vocabulary: Mapping[str, Any] | None
    tokenizer_json: str
    promoted: int | None = None
    side: Path | None = None
    adapters: Adapters | None = None
    tensors: Weights | None = None
    base: str = ""


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
    from ck.train.base import reopen_base

    record = directory / "run.json"
    hp = read_hyperparameters(_record(record).get("hyperparameters"), str(record))
    checkpoints = Checkpoints(directory)
    checkpoint = checkpoints.load_newest(say) if step is None else checkpoints.load(step)
    adapters = read_adapters(_record(record).get("adapters"), str(record))
    weights, base = cast(Weights, checkpoint.weights), ""
    if adapters is not None:
        model = reopen_base(directory)
        weights, base = MergedWeights(model.weights, adapters, checkpoint.weights), str(model.file.path)
    vocabulary, side = _words_of_run(directory)
    return ExportSource(
        name=directory.absolute().name,
        step=checkpoint.step,
        hp=hp,
        weights=weights,
        vocabulary=vocabulary,
        tokenizer_json=(directory / "tokenizer.json").read_text("utf-8"),
        promoted=promoted_step(_record(record)),
        side=side,
        adapters=adapters,
        tensors=None if adapters is None else checkpoint.weights,
        base=base,
    )


def _words_of_run(directory: Path) -> tuple[dict[str, Any] | None, Path | None]:
    """The vocabulary of a run's model, or the folder with the files in its place."""
    from ck.train.base_side import kept_vocabulary, side_of
    from ck.train.tokenizer_training import gguf_vocabulary, load_tokenizer

    side = side_of(directory)
    if side is None:
        return gguf_vocabulary(load_tokenizer(directory / "tokenizer.json")), None
    return kept_vocabulary(side), side


def read_adapters(record: Any, where: str) -> Adapters | None:
    """The adapters that `dataclasses.asdict` made `record` of; None where there are none."""
    if record is None:
        return None
    try:
        rank, alpha, weights = (record[name] for name in ("rank", "alpha", "weights"))
        if type(rank) is int and 0 < rank <= RANK_LIMIT and 0 < float(alpha) < math.inf and weights:
            return Adapters(rank, float(alpha), tuple(map(str, weights)))
    except (KeyError, TypeError, ValueError):
        pass
    raise MalformedError(f"{where}: adapters must have rank, alpha and weights in range, found others")


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
            read = _LISTS.get(field.name, _number)
            values[field.name] = read(field.name, record[field.name], field.type, where)
        elif field.default is MISSING:
            raise MalformedError(f"{where}: hyperparameters must have {field.name}, found none")
    if values["n_heads"] % values["n_kv_heads"]:
        found = values["n_kv_heads"]
        raise MalformedError(f"{where}: n_kv_heads must divide the {values['n_heads']} heads, found {found}")
    hp = HyperParameters(**values)
    if len(hp.recurrent_layers) not in (0, hp.n_layers) or hp.n_state_heads % max(hp.n_state_keys, 1):
        raise MalformedError(f"{where}: recurrent layers must be those of {hp.n_layers} layers, found others")
    return hp


def _numbers(name: str, value: Any, wanted: Any, where: str) -> tuple[float, ...]:
    kind = type(value).__name__
    numbers = cast(Sequence[Any], value) if isinstance(value, list | tuple) else None
    if numbers is None or len(numbers) > HEAD_DIM_LIMIT:
        raise MalformedError(f"{where}: {name} must be a list of numbers, found {kind}")
    return tuple(_number(name, each, float, where) for each in numbers)


def _flags(name: str, value: Any, wanted: Any, where: str) -> tuple[bool, ...]:
    kind = type(value).__name__
    flags = cast(Sequence[Any], value) if isinstance(value, list | tuple) else None
    if flags is None or not all(type(flag) is bool for flag in flags):
        raise MalformedError(f"{where}: {name} must be a list of true and false, found {kind}")
    return tuple(flags)


_LISTS = {"rope_divisors": _numbers, "recurrent_layers": _flags}


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


class MergedWeights(Mapping[str, NDArray[np.float32]]):
    """The tensors of a model with its adapters in them, made when asked for; `sign` -1 takes them out."""

    def __init__(self, base: Weights, adapters: Adapters, tensors: Weights, sign: float = 1.0) -> None:
        self._base, self._adapters, self._tensors, self._sign = base, adapters, tensors, sign

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        values = self._base[name]
        if name not in self._adapters.weights:
            return values
        delta = self._adapters.delta(self._tensors, name)
        return values + delta if self._sign > 0 else values - delta

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)


class StoredWeights(Mapping[str, NDArray[np.float32]]):
    """The tensors of a model file, dequantised when asked for."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return read_tensor(self._file, name)

    def __iter__(self) -> Iterator[str]:
        left_out = {DIVISORS, *self._file.skipped}
        return (name for name in self._file.tensors if name not in left_out)

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
