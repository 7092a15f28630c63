"""The `gemma3` family outward: transformers' `Gemma3ForCausalLM`, text models.

A GGUF file stores the gain w of a norm, transformers w - 1, to which it adds 1. In f32 the subtraction is
exact for gains from 0.5 on, which come back bit for bit; from 0 to 0.5 it is off by 2^-25 at most. The other
way, 1 + w rounds as it does inside transformers' own norm. Gradients and moments are the same on both sides.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ck.frontend.architectures.outward import Array, Kind, Scalar
from ck.frontend.architectures.outward.common import (
    LINEAR,
    common_config,
    common_metadata,
    names,
    part,
    refusal,
    rename,
    rope_parameters,
)
from ck.frontend.hyperparameters import HyperParameters

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
    kinds = ("full_attention", "sliding_attention")
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        **common_config(hp),
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": scalar,
        "sliding_window": hp.sliding_window,
        "layer_types": [kinds[hp.is_local(layer)] for layer in range(hp.n_layers)],
        "rope_parameters": {
            "full_attention": rope_parameters(hp.rope_base, hp.rope_factor),
            "sliding_attention": rope_parameters(hp.rope_base_local),
        },
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }


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
