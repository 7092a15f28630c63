"""A model file in numbers: parameters, bytes and storage types, and what a program needs of memory."""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ck.dtypes import BY_NAME, StorageType

if TYPE_CHECKING:
    from ck.frontend.gguf import GgufFile
    from ck.frontend.hyperparameters import HyperParameters

# Names of general.file_type, spelled as llama.cpp prints them. Source: llama.cpp, src/llama-model-loader.cpp.
FILE_TYPES = {
    0: "all F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K - Medium",
    11: "Q3_K - Small", 12: "Q3_K - Medium", 13: "Q3_K - Large", 14: "Q4_K - Small", 15: "Q4_K - Medium",
    16: "Q5_K - Small", 17: "Q5_K - Medium", 18: "Q6_K", 32: "BF16",
}  # fmt: skip

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

    @property
    def total_bytes(self) -> int:
        """Weights and cache."""
        return self.weights_bytes + self.kv_bytes


def n_params(file: "GgufFile") -> int:
    """Elements of all tensors."""
    return sum(prod(tensor.shape) for tensor in file.tensors.values())


def n_tensor_bytes(file: "GgufFile") -> int:
    """Bytes of all tensors in the file."""
    return sum(tensor.n_bytes for tensor in file.tensors.values())


def storage_mix(file: "GgufFile") -> list[StorageShare]:
    """The storage types of a file, most bytes first."""
    tensors, params, size = Counter[str](), Counter[str](), Counter[str]()
    for tensor in file.tensors.values():
        name = tensor.storage.name
        tensors[name] += 1
        params[name] += prod(tensor.shape)
        size[name] += tensor.n_bytes
    return [StorageShare(name, tensors[name], params[name], size[name]) for name, _ in size.most_common()]


def model_type(file: "GgufFile") -> str:
    """Architecture, size and file type in one line, for tables."""
    metadata = file.metadata
    size = metadata.text("general.size_label", "")
    kind = metadata.get("general.file_type")
    name = FILE_TYPES.get(kind, f"file type {kind}") if isinstance(kind, int) else ""
    return " ".join(filter(None, (metadata.text("general.architecture", "?"), size, name)))


def plan_memory(
    file: "GgufFile", hp: "HyperParameters", n_ctx: int, chunk: int, kv: str, dtype: str | None
) -> MemoryPlan:
    """Packed weights and KV cache; a layer with a window keeps window + chunk positions."""
    weights = 0
    for tensor in file.tensors.values():
        storage = BY_NAME[dtype] if dtype else tensor.storage
        weights += _packed_bytes(tensor.shape, storage)
    element = {"f16": 2, "f32": 4}[kv]
    positions = sum(_capacity(hp.layer_window(layer), n_ctx, chunk) for layer in range(hp.n_layers))
    return MemoryPlan(n_ctx, weights, positions * 2 * hp.n_kv_heads * hp.head_dim * element)


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
