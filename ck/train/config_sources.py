"""Where a configuration's values come from: a preset, a TOML file, flags, `--set`; each with its place."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any, cast

from ck.errors import MalformedError, UsageError
from ck.frontend.architectures.templates import PRESETS
from ck.frontend.gguf.cursor import shown

# A run is as long as one of these says; a source that has one puts those of earlier sources out of force.
LENGTHS = ("steps", "epochs", "total_tokens")
# Flags that are not called as their key is.
_FLAG_KEYS = {"data": "data.paths", "base": "model.base"}
_FLAG_NAMES = {"data.paths": "--data", "model.base": "--from", "lora.rank": "--lora"}
# What the parts of --lora are called there, and the key of each.
_LORA = {"r": "lora.rank", "alpha": "lora.alpha", "targets": "lora.targets"}
# Keys that have a flag on the command line; the others are named in full.
FLAGS = {
    *("template", "layers", "embed_dim", "hidden_dim", "num_heads", "num_kv_heads", "head_dim", "vocab_size"),
    *(
        "context_len",
        "init",
        "tokenizer",
        "seq_len",
        "batch",
        "grad_accum",
        "steps",
        "epochs",
        "total_tokens",
    ),
    *("optimizer", "lr", "schedule", "warmup", "max_grad_norm", "seed", "dtype", "threads"),
    *("save_every", "eval_every", "parity", "backend"),
}


def _values() -> dict[str, Any]:
    return {}


def _labels() -> dict[str, str]:
    return {}


def _mistakes() -> list[str]:
    return []


@dataclass
class Given:
    """Values by key, where each stands, and what is no value of any key."""

    values: dict[str, Any] = field(default_factory=_values)
    labels: dict[str, str] = field(default_factory=_labels)
    mistakes: list[str] = field(default_factory=_mistakes)

    def label(self, key: str) -> str:
        """Where the value of `key` stands, else where it would be set."""
        return self.labels.get(key, flag_or_key(key))

    def take(self, found: Iterable[tuple[str, Any, str]]) -> None:
        """Take over one source's keys, values and places."""
        entries = list(found)
        lengths = {f"run.{name}" for name in LENGTHS}
        if any(key in lengths for key, _, _ in entries):
            for key in lengths:
                self.values.pop(key, None)
        for key, value, label in entries:
            self.values[key] = value
            self.labels[key] = label


def flag_or_key(key: str) -> str:
    """How a user would set `key`: its flag where it has one."""
    if key in _FLAG_NAMES:
        return _FLAG_NAMES[key]
    name = key.partition(".")[2]
    return f"--{name.replace('_', '-')}" if name in FLAGS else key


def read_sources(
    keys: Sequence[str], toml: Path | None, flags: Mapping[str, Any], sets: Sequence[str]
) -> Given:
    """All that is given; the flag `preset` names what goes before all else, `lora` has its own spelling.

    Raises UsageError for a missing file, MalformedError for one that is no TOML.
    """
    given = Given()
    flags = dict(flags)
    given.take(_read_preset(flags.pop("preset", None), given.mistakes))
    if toml is not None:
        given.take(_read_toml(toml, keys, given.mistakes))
    given.take(_read_lora(flags.pop("lora", None), given.mistakes))
    given.take(_read_flags(flags, keys, given.mistakes))
    given.take(_read_sets(sets, keys, given.mistakes))
    return given


def _read_preset(name: Any, mistakes: list[str]) -> list[tuple[str, Any, str]]:
    if name is None:
        return []
    if not isinstance(name, str) or name not in PRESETS:
        mistakes.append(f"--preset: must be one of {', '.join(PRESETS)}, found {shown(repr(name))}")
        return []
    return [(key, value, f"--preset {name}: {key}") for key, value in PRESETS[name].items()]


def _read_lora(text: Any, mistakes: list[str]) -> list[tuple[str, Any, str]]:
    """`r=8,alpha=16,targets=q,v` as keys; what has no name goes on with the list before it."""
    if text is None:
        return []
    values: dict[str, list[str]] = {}
    last = ""
    for piece in str(text).split(","):
        name, equals, value = piece.partition("=")
        if equals:
            last = name.strip()
        values.setdefault(last, []).append((value if equals else name).strip())
    wrong = [name for name, parts in values.items() if name not in _LORA or (name != "targets" and parts[1:])]
    if wrong or "r" not in values:
        mistakes.append(f"--lora: must be r=8,alpha=16,targets=q,v or r=8 alone, found {shown(str(text))}")
        return []
    return [
        (_LORA[name], tuple(parts) if name == "targets" else _parse(parts[0]), f"--lora: {name}")
        for name, parts in values.items()
    ]


def _read_toml(path: Path, keys: Sequence[str], mistakes: list[str]) -> list[tuple[str, Any, str]]:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise UsageError(f"{path}: must be a readable TOML file, {what}") from error
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{path}: must be TOML, {_lowered(str(error))}") from error
    found: list[tuple[str, Any, str]] = []
    sections = dict.fromkeys(key.partition(".")[0] for key in keys)
    for section, values in data.items():
        if section not in sections or not isinstance(values, dict):
            known = ", ".join(f"[{name}]" for name in sections)
            is_key = any(key.endswith(f".{section}") for key in keys)
            near = [] if is_key else get_close_matches(section, sections, 1)
            meant = f", did you mean [{near[0]}]" if near else _suggest(section, keys)
            mistakes.append(f"{path}: must hold {known}, found {shown(section)}{meant}")
            continue
        for name, value in cast("dict[str, Any]", values).items():
            key = f"{section}.{name}"
            if key in keys:
                found.append((key, value, f"{path}: {key}"))
            else:
                mistakes.append(f"{path}: {_unknown(key, keys)}")
    return found


def _read_flags(
    flags: Mapping[str, Any], keys: Sequence[str], mistakes: list[str]
) -> list[tuple[str, Any, str]]:
    by_name = {key.partition(".")[2]: key for key in keys} | _FLAG_KEYS
    found: list[tuple[str, Any, str]] = []
    for name, value in flags.items():
        label = _FLAG_NAMES.get(by_name.get(name, ""), f"--{name.replace('_', '-')}")
        if name not in by_name:
            meant = _meant(name, keys)
            suggestion = f", did you mean {flag_or_key(meant)}" if meant else ""
            mistakes.append(f"{label}: is no option{suggestion}")
        elif value is not None and not (isinstance(value, tuple) and not value):
            found.append((by_name[name], _plain(value), label))
    return found


def _plain(value: Any) -> Any:
    """The Python number that a number of another kind, such as numpy's, is equal to; all else as it is."""
    match value:
        case bool() | int() | float():
            return value
        case Integral():
            return int(value)
        case Real():
            return float(value)
        case _:
            return value


def _read_sets(sets: Sequence[str], keys: Sequence[str], mistakes: list[str]) -> list[tuple[str, Any, str]]:
    found: list[tuple[str, Any, str]] = []
    for text in sets:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            mistakes.append(f"--set: must be section.name=value, found {shown(text)}")
        elif key not in keys:
            mistakes.append(f"--set {_unknown(key, keys)}")
        else:
            found.append((key, _parse(value.strip()), f"--set {key}"))
    return found


def _parse(text: str) -> Any:
    """A value as TOML has it; a word that is none is a text, so that quotes can be left out."""
    try:
        data = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return data["value"] if len(data) == 1 else text


def _unknown(key: str, keys: Sequence[str]) -> str:
    return f"{shown(key)}: is no key{_suggest(key, keys)}"


def _suggest(found: str, keys: Sequence[str]) -> str:
    meant = _meant(found, keys)
    return f", did you mean {meant}" if meant else ""


def _meant(found: str, keys: Sequence[str]) -> str | None:
    """The key that was meant: the one of that last part, else one whose full name or last part is near."""
    by_name = {key.partition(".")[2]: key for key in keys}
    found = found.lower().replace("-", "_")
    name = found.rpartition(".")[2]
    if name in by_name:
        return by_name[name]
    if near := get_close_matches(found, keys, 1, 0.75):
        return near[0]
    near = get_close_matches(name, by_name, 1, 0.7)
    return by_name[near[0]] if near else None


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
