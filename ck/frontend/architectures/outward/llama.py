"""The `llama` family outward: transformers' `LlamaForCausalLM`, with a window `MistralForCausalLM`.

Both conventions store the same numbers; the rows of q and k lie in another order. Rows of a head of K turn in
pairs: in a GGUF file 2i and 2i + 1 ("interleaved"), in transformers i and i + K/2 ("halves").
"""

from collections.abc import Mapping
from typing import Any

from ck.frontend.architectures.outward import Array, Kind, Scalar
from ck.frontend.architectures.outward.common import (
    LINEAR,
    common_metadata,
    names,
    part,
    plain_config,
    read_config,
    refusal,
    rename,
)
from ck.frontend.architectures.outward.config import ConfigReader
from ck.frontend.architectures.outward.windows import window_metadata
from ck.frontend.hyperparameters import CONTEXT_LIMIT, HyperParameters

# What transformers' LlamaConfig has where a field is absent.
DEFAULTS = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    "rope_theta": 1e4, "tie_word_embeddings": False,
}  # fmt: skip
# What its MistralConfig has there instead.
MISTRAL = {
    "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131072,
    "sliding_window": 4096,
}  # fmt: skip
PARTS = {**LINEAR, "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def huggingface_config(hp: HyperParameters) -> dict[str, Any]:
    """The fields of config.json. Raises UnsupportedError for numbers that the class cannot have."""
    if not hp.sliding_window:
        return plain_config(hp, "LlamaForCausalLM", "llama") | {"mlp_bias": False}
    if not all(hp.is_local(layer) for layer in range(hp.n_layers)):
        raise refusal(hp, "window_pattern", "0, a window in every layer,", hp.window_pattern)
    return plain_config(hp, "MistralForCausalLM", "mistral") | {"sliding_window": hp.sliding_window}


def from_huggingface_config(config: ConfigReader) -> HyperParameters:
    """The numbers of config.json. Raises MalformedError, UnsupportedError naming the field."""
    mistral = config.get("model_type") == "mistral"
    config = config.with_defaults(DEFAULTS | MISTRAL if mistral else DEFAULTS)
    config.refuse("hidden_act", "silu")
    config.refuse("mlp_bias", False)
    hp = read_config(config, "llama")
    # The other class has no such field, whatever a file may say.
    if not mistral or config.get("sliding_window") is None:
        return hp
    return hp.with_window(config.integer("sliding_window", 1, CONTEXT_LIMIT))


def huggingface_names(hp: HyperParameters) -> dict[str, str]:
    """GGUF name -> transformers' name of every tensor."""
    return names(hp, PARTS)


def to_huggingface(
    hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
) -> dict[str, Array]:
    """`tensors` with transformers' names and order of rows, whatever the kind: nothing is rounded."""

    def convert(name: str, values: Array) -> Array:
        return _reorder(values, _heads(hp, name), (-1, 2))

    return rename(hp, tensors, huggingface_names(hp), convert)


def from_huggingface(
    hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
) -> dict[str, Array]:
    """The inverse of `to_huggingface`."""
    ours = {theirs: name for name, theirs in huggingface_names(hp).items()}

    def convert(name: str, values: Array) -> Array:
        return _reorder(values, _heads(hp, ours[name]), (2, -1))

    return rename(hp, tensors, ours, convert)


def _heads(hp: HyperParameters, name: str) -> int:
    """Heads of the tensor with the GGUF name `name`, if it is q or k; else 0."""
    return {"attn_q": hp.n_heads, "attn_k": hp.n_kv_heads}.get(part(name), 0)


def _reorder(values: Array, heads: int, split: tuple[int, int]) -> Array:
    """Each head's rows, `split` into pairs and members, transposed; without heads the values as they are."""
    if not heads:
        return values
    return values.reshape(heads, *split, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


def gguf_metadata(hp: HyperParameters) -> dict[str, Scalar | list[bool]]:
    """The keys `llama.*`."""
    return {**common_metadata(hp), **window_metadata(hp)}
