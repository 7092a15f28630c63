"""A model file in numbers: parameters, bytes and storage types, and what a program needs of memory."""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ck.dtypes import BY_NAME, StorageType

if TYPE_CHECKING:
    from ck.frontend.hyperparameters import HyperParameters
    from ck.frontend.model_file import ModelFile

# Positions a block of the KV cache: capacities are multiples of it.
KV_BLOCK = 64
DEFAULT_CONTEXT = 4096


@dataclass(frozen=True)
class StorageShare:
    """What one storage type has of a model."""

    storage: str
    n_tensors: int
    n_params: int
    n_bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes a program keeps for `n_ctx` tokens of context, beside the activations of one chunk."""

    n_ctx: int
    weights_bytes: int
    kv_bytes: int
    state_bytes: int

    @property
    def total_bytes(self) -> int:
        """Weights, cache and states."""
        return self.weights_bytes + self.kv_bytes + self.state_bytes


def n_params(file: "ModelFile") -> int:
    """Elements of all tensors."""
    return sum(prod(tensor.shape) for tensor in file.tensors.values())


def n_tensor_bytes(file: "ModelFile") -> int:
    """Bytes of all tensors in the file."""
    return sum(tensor.n_bytes for tensor in file.tensors.values())


def storage_mix(file: "ModelFile") -> list[StorageShare]:
    """The storage types of a file, most bytes first."""
    tensors, params, size = Counter[str](), Counter[str](), Counter[str]()
    for tensor in file.tensors.values():
        name = tensor.storage.name
        tensors[name] += 1
        params[name] += prod(tensor.shape)
        size[name] += tensor.n_bytes
    return [StorageShare(name, tensors[name], params[name], size[name]) for name, _ in size.most_common()]


def plan_memory(
    file: "ModelFile", hp: "HyperParameters", n_ctx: int, chunk: int, kv: str, dtype: str | None
) -> MemoryPlan:
    """Packed weights, KV cache, states; a layer with a window keeps window + chunk positions."""
    weights = 0
    for tensor in (file.tensors[name] for name in file.tensors.keys() - {*file.skipped}):
        storage = BY_NAME[dtype] if dtype else tensor.storage
        weights += _packed_bytes(tensor.shape, storage)
    element = {"f16": 2, "f32": 4}[kv]
    positions = sum(_capacity(hp.layer_window(layer), n_ctx, chunk) for layer in hp.attention_layers)
    kv_bytes = positions * 2 * hp.n_kv_heads * hp.head_dim * element
    n_recurrent = hp.n_layers - len(hp.attention_layers)
    states = n_recurrent * sum(4 * prod(sizes) for sizes in hp.state_shapes) if n_recurrent else 0
    return MemoryPlan(n_ctx, weights, kv_bytes, states)


def _packed_bytes(shape: tuple[int, ...], storage: StorageType) -> int:
    if len(shape) == 1:
        return shape[0] * 4
    return storage.matrix_packed_bytes(prod(shape[:-1]), shape[-1])


def _capacity(window: int, n_ctx: int, chunk: int) -> int:
    needed = min(n_ctx, window + chunk) if window else n_ctx
    return -(-needed // KV_BLOCK) * KV_BLOCK


def context_of(hp: "HyperParameters", ctx_size: int | None) -> int:
    """Tokens of context for -c: 0 is the model's own, none is the model's own up to 4096."""
    if ctx_size == 0:
        return hp.context_length
    return ctx_size or min(hp.context_length, DEFAULT_CONTEXT)
