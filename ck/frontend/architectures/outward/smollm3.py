"""The `smollm3` family outward: transformers' `SmolLM3ForCausalLM`.

Names of tensors and the order of rows are those of llama, in layers that are not rotated too.
"""

from typing import Any, cast

from ck.frontend.architectures.outward import Scalar
from ck.frontend.architectures.outward.common import (
    common_metadata,
    plain_config,
    read_config,
    refusal,
    refuse_windows,
)
from ck.frontend.architectures.outward.config import ConfigReader
from ck.frontend.architectures.outward.llama import from_huggingface, huggingface_names, to_huggingface
from ck.frontend.hyperparameters import HyperParameters

__all__ = [
    "from_huggingface",
    "from_huggingface_config",
    "gguf_metadata",
    "huggingface_config",
    "huggingface_names",
    "to_huggingface",
]
# What transformers' SmolLM3Config has where a field is absent.
DEFAULTS = {
    "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
    "num_attention_heads": 16, "num_key_value_heads": 4, "hidden_act": "silu",
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 2e6, "tie_word_embeddings": True,
    "no_rope_layer_interval": 4,
}  # fmt: skip
UNROTATED = 4


def huggingface_config(hp: HyperParameters) -> dict[str, Any]:
    """The fields of config.json. Raises UnsupportedError for numbers that the class cannot have."""
    if hp.sliding_window:
        raise refusal(hp, "sliding_window", "0", hp.sliding_window)
    return plain_config(hp, "SmolLM3ForCausalLM", "smollm3") | {
        "mlp_bias": False,
        "use_sliding_window": False,
        "no_rope_layers": _rotated(hp.n_layers),
        "no_rope_layer_interval": UNROTATED,
    }


def _rotated(n_layers: int) -> list[int]:
    """1 for each layer that is rotated, 0 for each that is not: the field's name says the opposite."""
    return [int((layer + 1) % UNROTATED != 0) for layer in range(n_layers)]


def from_huggingface_config(config: ConfigReader) -> HyperParameters:
    """The numbers of config.json. Raises MalformedError, UnsupportedError naming the field."""
    config = config.with_defaults(DEFAULTS)
    config.refuse("hidden_act", "silu")
    config.refuse("mlp_bias", False)
    refuse_windows(config)
    hp = read_config(config, "smollm3")
    listed = config.get("no_rope_layers")
    if listed is None:
        config.refuse("no_rope_layer_interval", UNROTATED)
    elif not isinstance(listed, list) or cast(list[Any], listed)[: hp.n_layers] != _rotated(hp.n_layers):
        raise config.unsupported(
            f"field no_rope_layers must be 0 for every {UNROTATED}th of {hp.n_layers} layers, 1 for others"
        )
    return hp


def gguf_metadata(hp: HyperParameters) -> dict[str, Scalar]:
    """The keys `smollm3.*`."""
    return common_metadata(hp)
