"""The `qwen35` family outward: transformers' `Qwen3_5ForCausalLM`, and the text part of models that see.

A GGUF file stores the gain w of a norm, transformers w - 1, but for the gated norm of a recurrent layer,
which both store as w. A filter [C, I] is [C, 1, I] in transformers. Where there are P value heads to G key
heads, transformers has those of each key head side by side: the j-th of key head g is its g * (P / G) + j-th
and GGUF's j * G + g-th. Decays: ck/frontend/decays.py.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ck.frontend.architectures.outward import Array, Kind, Scalar
from ck.frontend.architectures.outward.common import (
    LINEAR,
    common_metadata,
    part,
    plain_config,
    read_config,
    rename,
)
from ck.frontend.architectures.outward.config import ConfigReader, written
from ck.frontend.decays import decay_name, factor_of, logarithm_of
from ck.frontend.hyperparameters import (
    HEAD_DIM_LIMIT,
    HEAD_LIMIT,
    LAYER_LIMIT,
    STATE_KEY_LIMIT,
    TAPS_RANGE,
    HyperParameters,
)

# What transformers' Qwen3_5TextConfig has where a field is absent.
DEFAULTS = {
    "vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 32,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "hidden_act": "silu",
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": False,
    "partial_rotary_factor": 0.25, "full_attention_interval": 4, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}  # fmt: skip
# In `layer_types`.
ATTENTION, RECURRENT = "full_attention", "linear_attention"
SHARED = {
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    **{name: theirs for name, theirs in LINEAR.items() if name.startswith("ffn")},
}  # fmt: skip
ATTENDING = {
    **{name: theirs for name, theirs in LINEAR.items() if name.startswith("attn")},
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip
RECALLING = {
    "attn_qkv": "linear_attn.in_proj_qkv", "attn_gate": "linear_attn.in_proj_z",
    "ssm_alpha": "linear_attn.in_proj_a", "ssm_beta": "linear_attn.in_proj_b",
    "ssm_conv1d": "linear_attn.conv1d", "ssm_norm": "linear_attn.norm", "ssm_out": "linear_attn.out_proj",
}  # fmt: skip


def huggingface_config(hp: HyperParameters) -> dict[str, Any]:
    """The fields of config.json. Raises UnsupportedError for numbers that the class cannot have."""
    fields = plain_config(hp, "Qwen3_5ForCausalLM", "qwen3_5_text", partial=True)
    fields["rope_parameters"] |= {"partial_rotary_factor": _share(hp), "mrope_section": _sections(hp)[:3]}
    return fields | {
        "layer_types": [RECURRENT if hp.is_recurrent(layer) else ATTENTION for layer in range(hp.n_layers)],
        "linear_num_key_heads": hp.n_state_keys,
        "linear_num_value_heads": hp.n_state_heads,
        "linear_key_head_dim": hp.state_key_dim,
        "linear_value_head_dim": hp.state_value_dim,
        "linear_conv_kernel_dim": hp.conv_taps,
    }


def _share(hp: HyperParameters) -> float:
    """The part of a head that turns, of which transformers takes the whole columns."""
    share = hp.rope_dims / hp.head_dim
    return share if int(hp.head_dim * share) == hp.rope_dims else math.nextafter(share, 1)


def _sections(hp: HyperParameters) -> list[int]:
    """Pairs of columns that turn by each part of a position in a picture; in a text all parts are alike."""
    pairs = hp.rope_dims // 2
    return [(pairs + 2) // 3, (pairs + 1) // 3, pairs // 3, 0]


def from_huggingface_config(config: ConfigReader) -> HyperParameters:
    """The numbers of config.json. Raises MalformedError, UnsupportedError naming the field."""
    config = config.with_defaults(DEFAULTS)
    config.refuse("hidden_act", "silu")
    hp = read_config(config, "qwen35", partial=True)
    heads = config.integer("linear_num_value_heads", 1, HEAD_LIMIT)
    keys = config.integer("linear_num_key_heads", 1, heads)
    if heads % keys:
        raise config.error(f"field linear_num_key_heads must divide the {heads} heads, found {keys}")
    return replace(
        hp,
        recurrent_layers=_recurrent_layers(config, hp.n_layers),
        n_state_heads=heads,
        n_state_keys=keys,
        state_key_dim=config.integer("linear_key_head_dim", 1, STATE_KEY_LIMIT),
        state_value_dim=config.integer("linear_value_head_dim", 1, HEAD_DIM_LIMIT),
        conv_taps=config.integer("linear_conv_kernel_dim", *TAPS_RANGE),
        log_decay=True,
    )


def _recurrent_layers(config: ConfigReader, n_layers: int) -> tuple[bool, ...]:
    given = config.get("layer_types")
    if given is None:
        interval = config.integer("full_attention_interval", 1, LAYER_LIMIT)
        return tuple(bool((layer + 1) % interval) for layer in range(n_layers))
    kinds = cast(list[Any], given) if isinstance(given, list) else []
    if len(kinds) != n_layers:
        raise config.error(f"field layer_types must list {n_layers} layers, found {written(given)}")
    odd = next((kind for kind in kinds if kind not in (ATTENTION, RECURRENT)), None)
    if odd is not None:
        raise config.unsupported(
            f"field layer_types must have {ATTENTION} and {RECURRENT} only, found {written(odd)}"
        )
    return tuple(kind == RECURRENT for kind in kinds)


def huggingface_names(hp: HyperParameters) -> dict[str, str]:
    """GGUF name -> transformers' name of every tensor."""
    found = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if not hp.tied:
        found["output.weight"] = "lm_head.weight"
    for layer in range(hp.n_layers):
        ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
        parts = {**SHARED, **(RECALLING if hp.is_recurrent(layer) else ATTENDING)}
        found |= {f"{ours}{name}.weight": f"{theirs}{other}.weight" for name, other in parts.items()}
        if hp.is_recurrent(layer):
            found[f"{ours}ssm_dt.bias"] = f"{theirs}linear_attn.dt_bias"
            found[decay_name(hp, layer)] = f"{theirs}linear_attn.A_log"
    return found


def to_huggingface(
    hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
) -> dict[str, Array]:
    """`tensors` with transformers' names, order of heads, shape of filters, and form of gains and decays."""

    def convert(name: str, values: Array) -> Array:
        values = _reorder(hp, part(name), values, cyclic=False)
        if part(name) == "ssm_conv1d":
            values = values[:, None]
        if kind != "weight":
            return values
        if part(name) == "ssm_a":
            return logarithm_of(values)
        return values - np.float32(1) if _is_gain(name) else values

    return rename(hp, tensors, huggingface_names(hp), convert)


def from_huggingface(
    hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
) -> dict[str, Array]:
    """The inverse of `to_huggingface`."""
    ours = {theirs: name for name, theirs in huggingface_names(hp).items()}

    def convert(name: str, values: Array) -> Array:
        name = ours[name]
        if part(name) == "ssm_conv1d":
            values = values[:, 0]
        values = _reorder(hp, part(name), values, cyclic=True)
        if kind != "weight":
            return values
        if part(name) == "ssm_a":
            return factor_of(values)
        return values + np.float32(1) if _is_gain(name) else values

    return rename(hp, tensors, ours, convert)


def _is_gain(name: str) -> bool:
    return part(name).endswith("_norm") and part(name) != "ssm_norm"


def _reorder(hp: HyperParameters, what: str, values: Array, cyclic: bool) -> Array:
    """The tensor that is `what` in its layer, its value heads in GGUF's order, which is cyclic, or not."""
    if hp.n_state_heads == hp.n_state_keys:
        return values
    keys = 2 * hp.n_state_keys * hp.state_key_dim
    match what:
        case "attn_qkv" | "ssm_conv1d":
            return np.concatenate([values[:keys], _heads(hp, values[keys:], cyclic)])
        case "attn_gate" | "ssm_alpha" | "ssm_beta" | "bias" | "ssm_a" | "ssm_a_log":
            return _heads(hp, values, cyclic)
        case "ssm_out":
            return _heads(hp, values.T, cyclic).T
        case _:
            return values


def _heads(hp: HyperParameters, values: Array, cyclic: bool) -> Array:
    """The value heads along the first axis, cyclic from grouped or the other way."""
    groups = (hp.n_state_keys, hp.n_state_heads // hp.n_state_keys)
    first = groups if cyclic else groups[::-1]
    return values.reshape(*first, -1, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)


def gguf_metadata(hp: HyperParameters) -> dict[str, Scalar]:
    """The keys `qwen35.*`."""
    values: dict[str, Scalar] = {
        "rope.dimension_sections": _sections(hp),
        "ssm.conv_kernel": hp.conv_taps,
        "ssm.state_size": hp.state_key_dim,
        "ssm.group_count": hp.n_state_keys,
        "ssm.time_step_rank": hp.n_state_heads,
        "ssm.inner_size": hp.n_state_heads * hp.state_value_dim,
        "attention.recurrent_layers": np.array(hp.recurrent_layers, np.bool_),
    }
    return common_metadata(hp) | {f"{hp.arch}.{name}": value for name, value in values.items()}
