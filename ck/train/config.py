"""The configuration of a training run: what there is to set, its defaults, and the TOML it is kept as.

Five sections, `model`, `lora`, `data`, `optim` and `run`; a key is `section.name`. Values come from the
defaults, then a preset, then the TOML file, then flags, then `--set section.name=value`; the later wins.
config_sources.py beside this file reads them, config_checks.py holds what takes more than one key to judge.
"""

import json
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ck.backend.backends import BACKENDS
from ck.errors import UsageError
from ck.frontend.adapters import ALL, RANK_LIMIT
from ck.frontend.architectures.templates import TEMPLATES
from ck.frontend.gguf.cursor import shown
from ck.frontend.hyperparameters import (
    CONTEXT_LIMIT,
    HEAD_LIMIT,
    LAYER_LIMIT,
    STATE_LIMIT,
    TAPS_RANGE,
    VOCAB_LIMIT,
    WIDTH_LIMIT,
)
from ck.frontend.initializers import INITIALIZERS
from ck.frontend.template import default_head_dim
from ck.train.alerts import DEVIATIONS, WINDOW, Policy
from ck.train.config_checks import STEPS, base_mistakes, cross_mistakes, is_of_base
from ck.train.config_sources import LENGTHS, Given, read_sources
from ck.train.schedules import Schedule

Parity = Literal["off", "suggest", "run", "require"]

TOKENIZERS = ("bpe", "ascii_bpe")
VOCAB_SIZE = 1024
# Room for a byte alphabet, reserved tokens and some merges.
VOCAB_MINIMUM = 300
_MANY = (1 << 63) - 1


def _whole(default: int | None, low: int, high: int = _MANY, note: str = "") -> Any:
    top = f" to {high}" if high < _MANY else ""
    return Field(default, ge=low, le=high, description=f"a whole number from {low}{top}{note}")


def _number(default: float | None, what: str, **limits: float) -> Any:
    return Field(default, allow_inf_nan=False, description=f"a number {what}", **cast(Any, limits))


def _choice(default: str, names: Sequence[str]) -> Any:
    return Field(default, description=f"one of {', '.join(names)}")


def _among(names: Sequence[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(name)
        return name

    return AfterValidator(check)


def _zero_or_vocabulary(size: int) -> int:
    if 0 < size < VOCAB_MINIMUM:
        raise ValueError(size)
    return size


def _text(value: Any) -> Any:
    return fspath(cast("PathLike[str]", value)) if isinstance(value, PathLike) else value


def _unicode(text: str) -> str:
    # A file name that is not UTF-8 could not be kept in TOML.
    text.encode()
    return text


def _texts(value: Any) -> Any:
    """One text or path, or any sequence of them, as a tuple."""
    if isinstance(value, str | PathLike):
        value = [value]
    return tuple(map(_text, cast("Sequence[Any]", value))) if isinstance(value, list | tuple) else value


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1), AfterValidator(_unicode)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_texts)]


class Section(BaseModel):
    """What all sections have in common: no key but the known ones, no value of another type, no change."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class ModelConfig(Section):
    """A family in sizes of one's own, or `base`, a model that is there. None is the family's default."""

    base: Text | None = Field(default=None, description="a model: a file, a folder, a run or a name")
    template: Annotated[str, _among([*TEMPLATES])] = _choice("", [*TEMPLATES])
    layers: int = _whole(4, 1, LAYER_LIMIT)
    embed_dim: int = _whole(128, 1, WIDTH_LIMIT)
    hidden_dim: int = _whole(512, 1, WIDTH_LIMIT)
    num_heads: int = _whole(8, 1, HEAD_LIMIT)
    num_kv_heads: int = _whole(4, 1, HEAD_LIMIT)
    # 0: the template's own, else embed_dim / num_heads; never 0 once loaded.
    head_dim: int = _whole(0, 0, 512, ", 0 for embed_dim / num_heads")
    # 0: that of the tokenizer when that is a file, else 1024.
    vocab_size: Annotated[int, AfterValidator(_zero_or_vocabulary)] = Field(
        default=0, ge=0, le=VOCAB_LIMIT, description=f"a whole number from {VOCAB_MINIMUM} to {VOCAB_LIMIT}"
    )
    context_len: int = _whole(512, 2, CONTEXT_LIMIT)
    init: Annotated[str, _among([*INITIALIZERS])] = _choice("normal_0p02", [*INITIALIZERS])
    tied: bool | None = Field(default=None, description="true or false")
    sliding_window: int | None = _whole(None, 1, CONTEXT_LIMIT)
    window_pattern: int | None = _whole(None, 1, LAYER_LIMIT)
    # Of recurrent layers, in the families that have them.
    attention_interval: int | None = _whole(None, 1, LAYER_LIMIT)
    state_heads: int | None = _whole(None, 1, HEAD_LIMIT)
    state_keys: int | None = _whole(None, 1, HEAD_LIMIT)
    state_key_dim: int | None = _whole(None, 1, STATE_LIMIT)
    state_value_dim: int | None = _whole(None, 1, STATE_LIMIT)
    conv_taps: int | None = _whole(None, *TAPS_RANGE)
    rope_base: float | None = _number(None, "above 0", gt=0)
    rms_eps: float | None = _number(None, "above 0", gt=0)


class LoraConfig(Section):
    """Adapters in place of the base's own weights: ck/frontend/adapters.py. rank 0: none."""

    rank: int = _whole(0, 0, RANK_LIMIT)
    # None: twice the rank.
    alpha: float | None = _number(None, "above 0", gt=0)
    targets: Texts = Field(default=(ALL,), description="a list of products, such as q and v, or all")


class DataConfig(Section):
    """The text, how it is cut into documents and tokens, and the part that scores."""

    paths: Texts = Field(default=(), description="a list of files and folders")
    split: Literal["file", "line"] = _choice("file", ("file", "line"))
    field: Text = Field(
        default="text", description="the name of the field of a JSONL row that holds the text"
    )
    dev_fraction: float = _number(0.05, "from 0 to below 1", ge=0, lt=1)
    tokenizer: Text = Field(default="bpe", description="bpe, ascii_bpe or the path of a tokenizer.json")
    special_tokens: Texts = Field(default=(), description="a list of texts")


class OptimConfig(Section):
    """The update: ck/train/schedules.py has the formulas of the learning rate."""

    optimizer: Literal["adamw", "sgd"] = _choice("adamw", ("adamw", "sgd"))
    lr: float = _number(3e-4, "above 0", gt=0)
    beta1: float = _number(0.9, "from 0 to below 1", ge=0, lt=1)
    beta2: float = _number(0.95, "from 0 to below 1", ge=0, lt=1)
    eps: float = _number(1e-8, "above 0", gt=0)
    weight_decay: float = _number(0.1, "from 0", ge=0)
    decay: Literal["matrices", "all"] = _choice("matrices", ("matrices", "all"))
    momentum: float = _number(0.9, "from 0 to below 1", ge=0, lt=1)
    # 0: no clipping.
    max_grad_norm: float = _number(1.0, "from 0", ge=0)
    schedule: Schedule = _choice("cosine", get_args(Schedule))
    warmup: int = _whole(0, 0)
    min_lr_ratio: float = _number(0.1, "from 0 to 1", ge=0, le=1)
    # The steps in which wsd falls; None: a tenth of all.
    decay_steps: int | None = _whole(None, 1)


class RunConfig(Section):
    """How long, in what pieces, and what is kept. Of steps, epochs, total_tokens one is set once loaded."""

    steps: int | None = _whole(None, 1)
    epochs: int | None = _whole(None, 1)
    total_tokens: int | None = _whole(None, 1)
    seq_len: int = _whole(128, 2, CONTEXT_LIMIT)
    batch: int = _whole(8, 1, 1 << 16)
    grad_accum: int = _whole(1, 1, 1 << 16)
    seed: int = _whole(42, 0)
    dtype: Literal["f32", "bf16"] = _choice("f32", ("f32", "bf16"))
    save_every: int = _whole(100, 1)
    eval_every: int = _whole(50, 1)
    keep_last: int = _whole(3, 1, 1 << 16)
    threads: int | None = _whole(None, 1, 1024)
    alerts: Policy = _choice("stop", get_args(Policy))
    spike_window: int = _whole(WINDOW, 2, 1 << 16)
    spike_deviations: float = _number(DEVIATIONS, "above 0", gt=0)
    parity: Parity = _choice("off", get_args(Parity))
    activation_budget: float = _number(1.0, "from 0 to 1", ge=0, le=1)
    backend: Literal["auto", "c", "llvm"] = _choice("auto", ("auto", *BACKENDS))


class TrainConfig(Section):
    """Everything that decides what a run computes, and how it is watched."""

    model: ModelConfig = ModelConfig()
    lora: LoraConfig = LoraConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()


SECTIONS: dict[str, type[Section]] = {
    "model": ModelConfig,
    "lora": LoraConfig,
    "data": DataConfig,
    "optim": OptimConfig,
    "run": RunConfig,
}
KEYS = tuple(f"{section}.{name}" for section, kind in SECTIONS.items() for name in kind.model_fields)


def load_config(
    toml: str | PathLike[str] | None = None, flags: Mapping[str, Any] | None = None, sets: Sequence[str] = ()
) -> TrainConfig:
    """The configuration of a TOML file, flags by name (None: not given) and `section.name=value` texts.

    A flag's name is its key's without the section, `data` for data.paths; `preset` names one of PRESETS. Of
    steps, epochs and total_tokens the one of the last source that has any counts. Raises UsageError with
    every mistake there is, joined by "; ", and MalformedError for a file that is no TOML.
    """
    try:
        path = None if toml is None else Path(toml)
    except TypeError:
        raise UsageError(f"toml: must be the path of a TOML file, found {shown(repr(toml))}") from None
    given = read_sources(KEYS, path, flags or {}, sets)
    mistakes = list(given.mistakes)
    config, wrong = _validate(given, mistakes)
    mistakes += [text for keys, text in cross_mistakes(config, given.label) if not wrong & {*keys}]
    mistakes += base_mistakes(given.values, given.label)
    if mistakes:
        raise UsageError("; ".join(mistakes))
    return _complete(config)


def dump_toml(config: TrainConfig) -> str:
    """`config` as TOML that `load_config` makes an equal one of."""
    lines: list[str] = []
    for section, values in config.model_dump().items():
        lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        lines += [
            f"{name} = {_toml(value)}"
            for name, value in values.items()
            if value is not None and not (config.model.base and is_of_base(f"{section}.{name}"))
        ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            # JSON's escapes are TOML's too; DEL is the one character that JSON leaves and TOML does not take.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case tuple() | list():
            return f"[{', '.join(map(_toml, cast('Sequence[Any]', value)))}]"
        case _:
            return repr(value)


def _validate(given: Given, mistakes: list[str]) -> tuple[TrainConfig, set[str]]:
    """The configuration with the defaults in place of wrong values, whose keys come along; adds mistakes."""
    wrong: set[str] = set()
    sections: dict[str, Section] = {}
    for section, kind in SECTIONS.items():
        keys = {key: name for name in kind.model_fields if (key := f"{section}.{name}") in given.values}
        values = {name: given.values[key] for key, name in keys.items()}
        bad = _wrong_names(kind, values)
        for key, name in keys.items():
            if name in bad:
                required, found = kind.model_fields[name].description, shown(repr(values.pop(name)))
                mistakes.append(f"{given.label(key)}: must be {required}, found {found}")
                wrong.add(key)
        sections[section] = kind.model_validate(values)
    return TrainConfig.model_validate(sections), wrong


def _wrong_names(kind: type[Section], values: Mapping[str, Any]) -> set[str]:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        return {str(each["loc"][0]) for each in error.errors()}
    return set()


def _complete(config: TrainConfig) -> TrainConfig:
    """Fill in what depends on other keys."""
    model, run, lora = config.model, config.run, config.lora
    new_tokenizer = config.data.tokenizer in TOKENIZERS
    sizes = {
        "head_dim": model.head_dim or default_head_dim(model.template, model.embed_dim, model.num_heads),
        "vocab_size": model.vocab_size or (VOCAB_SIZE if new_tokenizer else 0),
    }
    length = {} if any(getattr(run, name) for name in LENGTHS) else {"steps": STEPS}
    alpha = {"alpha": lora.alpha or 2.0 * lora.rank or None}
    return config.model_copy(
        update={
            "model": model if model.base else model.model_copy(update=sizes),
            "lora": lora.model_copy(update=alpha),
            "run": run.model_copy(update=length),
        }
    )
