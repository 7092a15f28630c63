"""Which storage type each tensor of a file gets: llama-quantize's own choice, by the file's type.

A file's type has a storage type for most matrices. The head, and the embedding where it is the head, become
q6_k, or q8_0 in a file of that; in the mixes (Q4_K_M, ..) some layers' values and ffn_down have more bits.
Rows that are no multiple of a type's block fall back to one of smaller blocks. Vectors, norms and filters
stay as they are.

Source: llama.cpp, src/llama-quant.cpp, for the families that ck has.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ck.dtypes import BY_NAME
from ck.errors import UsageError
from ck.frontend.quantize import FALLBACKS


@dataclass(frozen=True)
class FileType:
    """Its name as llama.cpp spells it, its number in general.file_type, the storage type of most matrices."""

    name: str
    number: int
    storage: str


_TYPES = (
    FileType("F32", 0, "f32"),
    FileType("F16", 1, "f16"),
    FileType("BF16", 32, "bf16"),
    FileType("Q8_0", 7, "q8_0"),
    FileType("Q6_K", 18, "q6_k"),
    FileType("Q5_K_M", 17, "q5_k"),
    FileType("Q5_K_S", 16, "q5_k"),
    FileType("Q5_1", 9, "q5_1"),
    FileType("Q5_0", 8, "q5_0"),
    FileType("Q4_K_M", 15, "q4_k"),
    FileType("Q4_K_S", 14, "q4_k"),
    FileType("Q4_1", 3, "q4_1"),
    FileType("Q4_0", 2, "q4_0"),
    FileType("IQ4_NL", 25, "iq4_nl"),
    FileType("IQ4_XS", 30, "iq4_xs"),
    FileType("Q3_K_L", 13, "q3_k"),
    FileType("Q3_K_M", 12, "q3_k"),
    FileType("Q3_K_S", 11, "q3_k"),
    FileType("Q2_K", 10, "q2_k"),
)
# By name in lower case; a type of blocks of 256 alone means its mix of medium size, as in llama.cpp.
FILE_TYPES = {each.name.lower(): each for each in _TYPES}
ALIASES = {"q5_k": "q5_k_m", "q4_k": "q4_k_m", "q3_k": "q3_k_m"}

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
# Attention's values, in a matrix of their own or with queries and keys.
_VALUES = ("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight")
_DOWN, _OUT = "ffn_down", "attn_output.weight"
# Of values, attention's output and ffn_down in every layer; of values and ffn_down in those that
# `_has_more_bits` names; of ffn_down in the first layers, of values in a number of them.
_EVERYWHERE = {"Q2_K": "q3_k", "Q3_K_M": "q4_k", "Q3_K_L": "q5_k"}
_MORE_BITS = {"Q4_K_M": "q6_k", "Q5_K_M": "q6_k"}
_FIRST_DOWN = {"Q4_K_S": "q5_k", "IQ4_NL": "q5_k", "IQ4_XS": "q5_k"}
_FIRST_DOWN_WEIGHTED = {"Q4_K_S": "q5_k", "Q4_0": "q4_1", "Q5_0": "q5_1"}
_FIRST_VALUES = {"Q3_K_M": (2, "q5_k"), "Q4_K_S": (4, "q5_k")}
# Of values that so many heads of queries share.
_MANY = 4
_SHARED_VALUES = {"Q2_K": "q4_k", "IQ4_NL": "q5_k", "IQ4_XS": "q5_k"}
# Blocks of the models whose values have 5 bits at least when heads share them.
_LARGE = 80


@dataclass(frozen=True)
class Choice:
    """What is asked for beside the file's type; types are storage types.

    head, embedding   of the head, of the embedding, in place of the choice
    leave_head        a head of its own stays as it is
    pure              one type for all, but for rows that do not fit it
    weighted          there is an importance matrix
    """

    head: str | None = None
    embedding: str | None = None
    leave_head: bool = False
    pure: bool = False
    weighted: bool = False


def find_file_type(name: str) -> FileType:
    """The file type of that name, in any case. Raises UsageError naming all."""
    lower = name.lower()
    found = FILE_TYPES.get(ALIASES.get(lower, lower))
    if found is None:
        known = ", ".join(each.name for each in _TYPES)
        raise UsageError(f"--type: must be one of {known}, found {name}")
    return found


def in_file_order(names: Mapping[str, object]) -> list[str]:
    """Names as llama-quantize writes tensors: those of no block, then block after block, by name in each."""
    return sorted(names, key=lambda name: (_block(name), name.encode()))


def _block(name: str) -> int:
    found = re.match(r"blk\.(\d{1,9})\.", name)
    return int(found[1]) if found else -1


@dataclass
class Chooser:
    """Chooses for the tensors of one model, asked in the order of the file.

    n_blocks   of the header
    n_shared   heads of queries that share one of values
    """

    of: FileType
    choice: Choice
    n_blocks: int
    n_values: int
    tied: bool
    n_shared: int
    _values: int = field(default=0, init=False)
    _downs: int = field(default=0, init=False)

    def storage(self, name: str, shape: tuple[int, ...], now: str) -> str:
        """The storage type of a tensor that is stored as `now`. Raises UsageError where rows do not fit."""
        if not self._is_changed(name, shape):
            return now
        if self.choice.embedding is not None and name == EMBEDDING:
            return _fitting(name, shape, self.choice.embedding)
        if self.choice.head is not None and name == HEAD:
            return _fitting(name, shape, self.choice.head)
        if not BY_NAME[self.of.storage].quantized:
            return self.of.storage
        chosen = self.of.storage if self.choice.pure else self._mixed(name, shape)
        return fallback(chosen, shape[-1])

    def _is_changed(self, name: str, shape: tuple[int, ...]) -> bool:
        # ggml does not count outer dimensions of 1.
        is_matrix = len(shape) > 1 and max(shape[:-1]) > 1
        kept = "_norm.weight" in name or "ssm_conv1d" in name or (name == HEAD and self.choice.leave_head)
        return is_matrix and name.endswith("weight") and not kept

    def _mixed(self, name: str, shape: tuple[int, ...]) -> str:
        if name == HEAD or (name == EMBEDDING and self.tied):
            return self.choice.head or self._of_head(shape[-1])
        if any(part in name for part in _VALUES):
            self._values += 1
            return self._of_values(self._values - 1)
        if _DOWN in name:
            self._downs += 1
            return self._of_down(self._downs - 1)
        return _EVERYWHERE.get(self.of.name, self.of.storage) if _OUT in name else self.of.storage

    def _of_head(self, n_in: int) -> str:
        if n_in % BY_NAME[self.of.storage].block or self.of.storage == "q8_0":
            return "q8_0"
        return "q6_k"

    def _of_values(self, layer: int) -> str:
        name, chosen = self.of.name, _EVERYWHERE.get(self.of.name, self.of.storage)
        n_first, first = _FIRST_VALUES.get(name, (0, ""))
        if layer < n_first:
            chosen = first
        elif name in _MORE_BITS and _has_more_bits(layer, self.n_values):
            chosen = _MORE_BITS[name]
        elif self.n_shared >= _MANY:
            chosen = _SHARED_VALUES.get(name, chosen)
        is_large = self.n_blocks == _LARGE and self.n_shared > 1
        return "q5_k" if is_large and chosen in ("q3_k", "q4_k") else chosen

    def _of_down(self, layer: int) -> str:
        name = self.of.name
        first = _FIRST_DOWN_WEIGHTED if self.choice.weighted else _FIRST_DOWN
        if name in _MORE_BITS and _has_more_bits(layer, self.n_blocks):
            return _MORE_BITS[name]
        if name == "Q3_K_M" and layer < self.n_blocks // 16:
            return "q5_k"
        if name in first and layer < self.n_blocks // 8:
            return first[name]
        return _EVERYWHERE.get(name, self.of.storage)


def chooser_of(
    of: FileType, choice: Choice, names: Mapping[str, object], n_blocks: int, n_shared: int
) -> Chooser:
    """The chooser for a model of these tensors."""
    n_values = sum(any(part in name for part in _VALUES) for name in names)
    return Chooser(of, choice, n_blocks, n_values, HEAD not in names, n_shared)


def fallback(storage: str, n_in: int) -> str:
    """`storage`, or what rows of `n_in` numbers become where they are no multiple of its block."""
    if n_in % BY_NAME[storage].block == 0:
        return storage
    smaller = FALLBACKS.get(storage, storage)
    return smaller if n_in % BY_NAME[smaller].block == 0 else "f16"


def _fitting(name: str, shape: tuple[int, ...], storage: str) -> str:
    of = BY_NAME[storage]
    if shape[-1] % of.block:
        raise UsageError(f"{name}: rows must be multiples of {of.block} to be {storage}, found {shape[-1]}")
    return storage


def _has_more_bits(layer: int, n_layers: int) -> bool:
    """Whether a layer is of the first or the last eighth, or every third between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2
