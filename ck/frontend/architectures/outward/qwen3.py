"""The `qwen3` family outward: transformers' `Qwen3ForCausalLM`.

Both conventions store the same numbers in the same order.
"""

from collections.abc import Mapping
from typing import Any

from ck.frontend.architectures.outward import Array, Kind, Scalar
from ck.frontend.architectures.outward.common import (
    LINEAR,
    as_is,
    common_metadata,
    names,
    plain_config,
    read_config,
    rename,
)
from ck.frontend.architectures.outward.config import ConfigReader
from ck.frontend.architectures.outward.windows import read_window, window_config, window_metadata
from ck.frontend.hyperparameters import HyperParameters

# What transformers' Qwen3Config has where a field is absent.
DEFAULTS = {
    "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "hidden_act": "silu",
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": False,
}  # fmt: skip
PARTS = {
    **LINEAR,
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip


def huggingface_config(hp: HyperParameters) -> dict[str, Any]:
    """The fields of config.json. Raises UnsupportedError for numbers that the class cannot have."""
    return plain_config(hp, "Qwen3ForCausalLM", "qwen3") | window_config(hp)


def from_huggingface_config(config: ConfigReader) -> HyperParameters:
    """The numbers of config.json. Raises MalformedError, UnsupportedError naming the field."""
    config = config.with_defaults(DEFAULTS)
    config.refuse("hidden_act", "silu")
    return read_window(config, read_config(config, "qwen3"))


def huggingface_names(hp: HyperParameters) -> dict[str, str]:
    """GGUF name -> transformers' name of every tensor."""
    return names(hp, PARTS)


def to_huggingface(
    hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
) -> dict[str, Array]:
    """`tensors` with transformers' names."""
    return rename(hp, tensors, huggingface_names(hp), as_is)


def from_huggingface(
    hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
) -> dict[str, Array]:
    """The inverse of `to_huggingface`."""
    ours = {theirs: name for name, theirs in huggingface_names(hp).items()}
    return rename(hp, tensors, ours, as_is)


def gguf_metadata(hp: HyperParameters) -> dict[str, Scalar | list[bool]]:
    """The keys `qwen3.*`."""
    return {**common_metadata(hp), **window_metadata(hp)}
