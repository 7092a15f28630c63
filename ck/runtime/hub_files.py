"""Which files of a repository make a model: one GGUF file with all its parts, or those of a model folder.

A GGUF file is chosen by the type in its name, Q4_K_M where none is asked for; the only one there is needs no
type. Where no GGUF file is meant it is the folder: config.json, model.safetensors or its index and shards,
tokenizer, chat template. An adapter is adapter_config.json and adapter_model.safetensors.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ck.errors import NetworkError, UnsupportedError
from ck.frontend.gguf import part_names
from ck.runtime.hub_name import HubName

DEFAULT_QUANT = "Q4_K_M"
_CONFIG = "config.json"
_WEIGHTS = re.compile(r"model(?:-\d{5}-of-\d{5})?\.safetensors")
_SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")
_FOLDER = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
# Where there is no tokenizer.json: that the folder's reader can say what it found in its place.
_OTHER_TOKENIZERS = ("tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
# GGUF files beside a model that are none: projectors of pictures, matrices of importance.
_NO_MODEL = re.compile(r"(?:^|[-._])(?:mmproj|imatrix)(?:[-._]|$)", re.IGNORECASE)
_SHOWN = 8


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. digest: its SHA-256 when it is large, else the SHA-1 that git has of it."""

    name: str
    n_bytes: int
    digest: str


@dataclass(frozen=True)
class Choice:
    """The files of a model. main: the GGUF file, of several parts the first; None is a folder."""

    files: tuple[HubFile, ...]
    main: str | None


def choose_model(name: HubName, files: Iterable[HubFile]) -> Choice:
    """The model that `name` means among `files`.

    Raises NetworkError, which says what is there, when it is not, UnsupportedError when that is only what ck
    does not read.
    """
    listed = {file.name: file for file in files}
    if name.file is not None:
        return _gguf(name, name.file, listed)
    models = whole_models(listed)
    if name.quant is None and len(models) == 1:
        return _gguf(name, models[0], listed)
    found = [model for model in models if _carries(model, name.quant or DEFAULT_QUANT)]
    if len(found) == 1:
        return _gguf(name, found[0], listed)
    if name.quant is None and _CONFIG in listed and any(map(_WEIGHTS.fullmatch, listed)):
        return _folder(name, listed)
    if not models:
        raise _no_model(name, listed)
    raise _which(name, models, len(found))


def choose_adapter(name: HubName, files: Iterable[HubFile]) -> Choice:
    """The adapter that the repository `name` is. Raises NetworkError when it is none."""
    listed = {file.name: file for file in files}
    for needed in _ADAPTER:
        if needed not in listed:
            raise NetworkError(f"{name}: an adapter must have {needed}, it has {_some(listed)}")
    return Choice(tuple(listed[needed] for needed in _ADAPTER), None)


Choose = Callable[[HubName, Iterable[HubFile]], Choice]


def whole_models(listed: Iterable[str]) -> list[str]:
    """The GGUF files that are models, of those in parts the first."""
    files = [file for file in listed if file.endswith(".gguf")]
    models = [file for file in files if not _NO_MODEL.search(file.rpartition("/")[2])]
    return sorted({part_names(file)[0] for file in models})


def _carries(file: str, quant: str) -> bool:
    """Whether a file's name, or the folder it is in, has `quant` as a word."""
    return re.search(rf"(?<![A-Za-z0-9_]){re.escape(quant)}(?![A-Za-z0-9_])", file, re.IGNORECASE) is not None


def _gguf(name: HubName, file: str, listed: Mapping[str, HubFile]) -> Choice:
    parts = part_names(file)
    for part in parts:
        if part not in listed:
            there = _some(whole_models(listed) or listed)
            raise NetworkError(f"{name}: has no file {part}; it has {there}")
    return Choice(tuple(listed[part] for part in parts), parts[0])


def _folder(name: HubName, listed: Mapping[str, HubFile]) -> Choice:
    # One file wins over shards, as it does where they are read.
    weights = {"model.safetensors"} if "model.safetensors" in listed else _shards(name, listed)
    others = () if "tokenizer.json" in listed else _OTHER_TOKENIZERS
    taken = sorted(file for file in listed if file in weights or file in _FOLDER or file in others)
    return Choice(tuple(listed[file] for file in taken), None)


def _shards(name: HubName, listed: Mapping[str, HubFile]) -> set[str]:
    counts = {file: int(found[1]) for file in listed if (found := _SHARD.fullmatch(file))}
    for count in set(counts.values()):
        if sum(other == count for other in counts.values()) != count:
            raise NetworkError(f"{name}: must have all {count} shards of its weights, some are missing")
    return set(counts)


def _no_model(name: HubName, listed: Mapping[str, HubFile]) -> NetworkError | UnsupportedError:
    if any(file.endswith((".bin", ".pt", ".pth", ".ckpt")) for file in listed):
        return UnsupportedError(
            f"{name}: has pickled weights alone, which run code when they are read; name a repository with "
            "safetensors or GGUF files"
        )
    return NetworkError(
        f"{name}: must have a GGUF file, or config.json and safetensors; it has {_some(listed)}"
    )


def _which(name: HubName, models: list[str], n_found: int) -> NetworkError:
    wanted = name.quant or DEFAULT_QUANT
    found = f"{n_found} files of type {wanted}" if n_found else f"no {wanted}"
    return NetworkError(
        f"{name}: has {found}; name one as ORG/NAME:TYPE or hf://{name.repo}/FILE, there are {_some(models)}"
    )


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more if found else "no files"
