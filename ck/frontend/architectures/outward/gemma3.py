"""The `gemma3` family outward: transformers' `Gemma3ForCausalLM`, text models.

A GGUF file stores the gain w of a norm, transformers w - 1, to which it adds 1. In f32 the subtraction is
exact for gains from 0.5 on, which come back bit for bit; from 0 to 0.5 it is off by 2^-25 at most. The other
way, 1 + w rounds as it does inside transformers' own norm. Gradients and moments are the same on both sides.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ck.frontend.architectures.outward import Array, Kind, Scalar
from ck.frontend.architectures.outward.common import (
    LINEAR,
    common_config,
    common_metadata,
    names,
    part,
    read_config,
    read_rope,
    refusal,
    rename,
    rope_parameters,
    scaled_rope,
)
from ck.frontend.architectures.outward.config import ConfigReader, written
from ck.frontend.architectures.outward.windows import GLOBAL, LOCAL, layer_types
from ck.frontend.hyperparameters import CONTEXT_LIMIT, LAYER_LIMIT, WIDTH_LIMIT, HyperParameters

# What transformers' Gemma3TextConfig has where a field is absent; 6 is its default pattern.
DEFAULTS = {
    "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
    "rope_theta": 1e6, "rope_local_base_freq": 1e4, "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
}  # fmt: skip
PARTS = {
    **LINEAR,
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip


def huggingface_config(hp: HyperParameters) -> dict[str, Any]:
    """The fields of config.json. Raises UnsupportedError for numbers that the class cannot have."""
    scalar = round(hp.attention_scale**-2)
    if not math.isclose(hp.attention_scale, 1 / math.sqrt(scalar), rel_tol=2**-24):
        raise refusal(hp, "attention_scale", "1/sqrt(n) of a whole n", hp.attention_scale)
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        **common_config(hp),
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": scalar,
        "sliding_window": hp.sliding_window,
        "layer_types": layer_types(hp),
        "rope_parameters": {
            GLOBAL: scaled_rope(hp),
            LOCAL: rope_parameters(hp.rope_base_local),
        },
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }


def from_huggingface_config(config: ConfigReader) -> HyperParameters:
    """The numbers of config.json. Raises MalformedError, UnsupportedError naming the field."""
    config = config.with_defaults(DEFAULTS)
    config.refuse("hidden_activation", "gelu_pytorch_tanh")
    for field in ("attn_logit_softcapping", "final_logit_softcapping"):
        config.refuse(field)
    config.refuse("use_bidirectional_attention", False)
    ropes = _ropes(config)
    hp = read_config(config, "gemma3", ropes[0])
    local = read_rope(config, ropes[1], hp.head_dim, "rope_local_base_freq")
    base_local = local.pop("rope_base")
    if local != {"rope_factor": 1}:
        raise config.unsupported("layers with a window must have no rotary scaling, found one")
    return replace(
        hp,
        rope_base_local=base_local,
        sliding_window=config.integer("sliding_window", 1, CONTEXT_LIMIT),
        window_pattern=_pattern(config, hp.n_layers),
        attention_scale=1 / math.sqrt(config.integer("query_pre_attn_scalar", 1, WIDTH_LIMIT)),
    )


def _ropes(config: ConfigReader) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The descriptions of the rotary embedding of global layers and of those with a window."""
    by_kind = config.mapping("rope_parameters")
    scaling = config.mapping("rope_scaling")
    whole = {**config.checked_mapping(by_kind.get(GLOBAL), f"rope_parameters of {GLOBAL}"), **scaling}
    return whole, config.checked_mapping(by_kind.get(LOCAL), f"rope_parameters of {LOCAL}")


def _pattern(config: ConfigReader, n_layers: int) -> int:
    """The n for which every n-th layer is global and no other. Raises UnsupportedError when there is none."""
    given = config.get("layer_types")
    if given is None:
        return config.integer("sliding_window_pattern", 1, LAYER_LIMIT)
    kinds = cast(list[Any], given) if isinstance(given, list) else []
    if len(kinds) != n_layers:
        raise config.error(f"field layer_types must list {n_layers} layers, found {written(given)}")
    # Without a global layer, a pattern longer than the model.
    first = kinds.index(GLOBAL) if GLOBAL in kinds else n_layers
    if kinds != [LOCAL if (layer + 1) % (first + 1) else GLOBAL for layer in range(n_layers)]:
        raise config.unsupported(
            f"field layer_types must have {GLOBAL} for every n-th layer and {LOCAL} for the others only"
        )
    return first + 1


def huggingface_names(hp: HyperParameters) -> dict[str, str]:
    """GGUF name -> transformers' name of every tensor."""
    return names(hp, PARTS)


def to_huggingface(
    hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
) -> dict[str, Array]:
    """`tensors` with transformers' names; of weights, the gains without their 1."""

    def convert(name: str, values: Array) -> Array:
        return values - np.float32(1) if kind == "weight" and _is_gain(name) else values

    return rename(hp, tensors, huggingface_names(hp), convert)


def from_huggingface(
    hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
) -> dict[str, Array]:
    """The inverse of `to_huggingface`."""
    ours = {theirs: name for name, theirs in huggingface_names(hp).items()}

    def convert(name: str, values: Array) -> Array:
        return values + np.float32(1) if kind == "weight" and _is_gain(ours[name]) else values

    return rename(hp, tensors, ours, convert)


def _is_gain(name: str) -> bool:
    return part(name).endswith("_norm")


def gguf_metadata(hp: HyperParameters) -> dict[str, Scalar]:
    """The keys `gemma3.*`."""
    return common_metadata(hp) | {
        f"{hp.arch}.attention.sliding_window": hp.sliding_window,
        f"{hp.arch}.attention.sliding_window_pattern": hp.window_pattern,
        f"{hp.arch}.rope.freq_base_swa": hp.rope_base_local,
    }
