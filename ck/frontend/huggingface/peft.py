"""Adapters as the package PEFT keeps them: a folder with adapter_config.json and adapter_model.safetensors.

    base_model.model.<module>.lora_A.weight [r, K]    .lora_B.weight [N, r]        f32, f16 or bf16

A module is transformers' of the family (ck/frontend/architectures/outward). Where the order of a weight's
rows or columns differs from GGUF's, so does that of B's rows and A's columns.
Source: PEFT's LoraConfig and its checkpoint format, https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError, UsageError
from ck.frontend.adapters import RANK_LIMIT, Adapters, Shapes, names_of
from ck.frontend.architectures import find_architecture
from ck.frontend.architectures.outward import Outward, find_outward
from ck.frontend.architectures.outward.config import ConfigReader
from ck.frontend.gguf.cursor import shown
from ck.frontend.huggingface.config_files import named, read_object
from ck.frontend.huggingface.safetensors import SafetensorsFile
from ck.frontend.hyperparameters import HyperParameters

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_SIDES = ("lora_A.weight", "lora_B.weight")
# Fields that change what an adapter computes, and the values at which they do not.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (False,), "fan_in_fan_out": (False,), "lora_bias": (False,), "bias": ("none",),
    "modules_to_save": ([],), "layer_replication": ([],), "trainable_token_indices": ([],),
    "use_qalora": (False,),
}  # fmt: skip

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StoredAdapter:
    """Adapters for one model, their tensors under ck's names and in GGUF's order, and a hash of it all."""

    adapters: Adapters
    tensors: Mapping[str, Floats]
    sha256: str


def read_adapter(folder: Path, hp: HyperParameters, shapes: Shapes) -> StoredAdapter:
    """The adapter in `folder`, for the model `hp` whose tensors have `shapes`.

    Raises UsageError when there is none, MalformedError when its files do not hold together or are for
    another model, UnsupportedError for a variant that ck does not have.
    """
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder}: must be the folder of an adapter, it has no {CONFIG}")
    where = named(folder / CONFIG)
    rank, alpha = _read_config(ConfigReader(read_object(folder / CONFIG), where))
    file = SafetensorsFile(folder / TENSORS)
    modules = _modules(hp)
    by_weight = _by_weight(file, modules)
    tensors: dict[str, Floats] = {}
    for name, sides in by_weight.items():
        rows, columns = shapes[name]
        wanted = {"lora_A.weight": (rank, columns), "lora_B.weight": (rows, rank)}
        for side, theirs in sides.items():
            tensors[names_of(name)[_SIDES.index(side)]] = _read_tensor(file, theirs, wanted[side])
    ordered = tuple(name for name in shapes if name in by_weight)
    adapters = Adapters(rank, alpha, ordered)
    digest = hashlib.sha256(repr(adapters).encode())
    for tensor in tensors.values():
        digest.update(tensor.data)
    return StoredAdapter(adapters, from_peft(hp, adapters, shapes, tensors), digest.hexdigest())


def _read_config(config: ConfigReader) -> tuple[int, float]:
    """Rank and alpha. Raises MalformedError, UnsupportedError."""
    config.refuse("peft_type", "LORA")
    for field, neutral in _PLAIN.items():
        if config.get(field) not in ([], {}):
            config.refuse(field, *neutral)
    for field in ("rank_pattern", "alpha_pattern"):
        if config.mapping(field):
            raise config.unsupported(
                f"field {field} must be empty, one rank and one alpha for all, found others"
            )
    rank = config.integer("r", 1, RANK_LIMIT)
    alpha = config.positive("lora_alpha")
    # "Rank-stabilised": alpha over the root of the rank.
    return rank, alpha * math.sqrt(rank) if config.get("use_rslora") is True else alpha


def _family(hp: HyperParameters) -> Outward:
    found = find_outward(hp.arch)
    assert found is not None
    return found


def _modules(hp: HyperParameters) -> dict[str, str]:
    """transformers' module -> weight, of every matrix of a layer."""
    architecture = find_architecture(hp.arch)
    assert architecture is not None
    names, shapes = _family(hp).huggingface_names(hp), architecture.tensor_shapes(hp)
    return {
        theirs.removesuffix(".weight"): ours
        for ours, theirs in names.items()
        if ours.startswith("blk.") and len(shapes[ours]) == 2
    }


def _by_weight(file: SafetensorsFile, modules: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Of each weight, the names of the file's tensors by their side. Raises MalformedError."""
    where, found = named(file.path), dict[str, dict[str, str]]()
    for name in file.names:
        side = next((side for side in _SIDES if name.endswith(f".{side}")), None)
        module = name.removeprefix(PREFIX).removesuffix(f".{side}")
        if side is None or module not in modules:
            raise MalformedError(
                f"{where}: must be an adapter of this model's layers, found {shown(name)}; "
                "give the model that it was trained on"
            )
        found.setdefault(modules[module], {})[side] = name
    lone = next((sides for sides in found.values() if len(sides) < len(_SIDES)), None)
    if lone is not None or not found:
        what = next(iter(lone.values())) if lone else "no tensors"
        raise MalformedError(
            f"{where}: must have {' and '.join(_SIDES)} of every module, found {shown(what)}"
        )
    return found


def _read_tensor(file: SafetensorsFile, name: str, shape: tuple[int, ...]) -> Floats:
    tensor = file.tensor(name)
    what = f"{named(file.path)}: tensor {shown(name)}"
    if tensor.shape != shape:
        raise MalformedError(
            f"{what} must be {list(shape)} for this model, found {list(tensor.shape)}; "
            "give the model that it was trained on"
        )
    raw = file.raw(name)
    if tensor.dtype == "bf16":
        values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        values = raw.view(np.float16 if tensor.dtype == "f16" else np.float32).astype(np.float32)
    if not np.isfinite(values).all():
        raise MalformedError(f"{what} must hold finite numbers only, found others")
    return values.reshape(shape)


def from_peft(
    hp: HyperParameters, adapters: Adapters, shapes: Shapes, tensors: Mapping[str, Floats]
) -> dict[str, Floats]:
    """Tensors under ck's names, from transformers' order of rows and columns to GGUF's."""
    return _reordered(hp, adapters, shapes, tensors, back=True)


def to_peft(
    hp: HyperParameters, adapters: Adapters, shapes: Shapes, tensors: Mapping[str, Floats]
) -> dict[str, Floats]:
    """The inverse of `from_peft`, under PEFT's names."""
    theirs = {ours: module for module, ours in _modules(hp).items()}
    ordered = _reordered(hp, adapters, shapes, tensors, back=False)
    return {
        f"{PREFIX}{theirs[name]}.{side}": ordered[ours]
        for name in adapters.weights
        for side, ours in zip(_SIDES, names_of(name), strict=True)
    }


def _reordered(
    hp: HyperParameters, adapters: Adapters, shapes: Shapes, tensors: Mapping[str, Floats], back: bool
) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    for name in adapters.weights:
        rows, columns = _orders(hp, name, shapes[name])
        if back:
            rows, columns = np.argsort(rows), np.argsort(columns)
        a, b = names_of(name)
        found[a] = np.ascontiguousarray(tensors[a][:, columns])
        found[b] = np.ascontiguousarray(tensors[b][rows])
    return found


def _orders(
    hp: HyperParameters, name: str, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of GGUF's rows and columns of weight `name` transformers has at each place."""
    family = _family(hp)

    def converted(numbers: NDArray[np.float64]) -> NDArray[Any]:
        given = {name: np.broadcast_to(numbers, shape)}
        (made,) = family.to_huggingface(hp, given, "gradient").values()
        return made.reshape(shape)

    rows = converted(np.arange(shape[0], dtype=np.float64)[:, None])[:, 0]
    columns = converted(np.arange(shape[1], dtype=np.float64)[None, :])[0]
    return rows.astype(np.intp), columns.astype(np.intp)


def peft_config(hp: HyperParameters, adapters: Adapters, base: str) -> dict[str, Any]:
    """The fields of adapter_config.json. `base` is what the model is called."""
    theirs = {ours: module for module, ours in _modules(hp).items()}
    targets = dict.fromkeys(theirs[name].rpartition(".")[2] for name in adapters.weights)
    alpha = adapters.alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapters.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "target_modules": list(targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }
