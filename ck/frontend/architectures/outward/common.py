"""What the families share on the way out: renaming, keys of the header, fields of config.json."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ck.errors import UnsupportedError, UsageError
from ck.frontend.architectures.outward import Array, Scalar
from ck.frontend.hyperparameters import HyperParameters

# Parts of a layer that all families call alike: GGUF's name -> transformers'.
LINEAR = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def names(hp: HyperParameters, parts: Mapping[str, str]) -> dict[str, str]:
    """GGUF name -> transformers' name of every tensor; `parts` are those of each layer."""
    found = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if not hp.tied:
        found["output.weight"] = "lm_head.weight"
    for layer in range(hp.n_layers):
        found |= {
            f"blk.{layer}.{ours}.weight": f"model.layers.{layer}.{theirs}.weight"
            for ours, theirs in parts.items()
        }
    return found


def rename(
    hp: HyperParameters,
    tensors: Mapping[str, Array],
    names: Mapping[str, str],
    convert: Callable[[str, Array], Array],
) -> dict[str, Array]:
    """`tensors` under the names that `names` gives them, each passed through `convert(old name, values)`."""
    unknown = next((name for name in tensors if name not in names), None)
    if unknown is not None:
        raise UsageError(f"{unknown}: must be a tensor of the {hp.arch} model, which has {len(names)}")
    return {names[name]: convert(name, values) for name, values in tensors.items()}


def part(name: str) -> str:
    """What a tensor is in its layer: "attn_q" of blk.3.attn_q.weight; of others the name's first word."""
    return name.removesuffix(".weight").rpartition(".")[2]


def common_metadata(hp: HyperParameters) -> dict[str, Scalar]:
    """The keys that all families spell alike, as `HeaderReader.common` reads them."""
    values: dict[str, Scalar] = {
        "block_count": hp.n_layers,
        "context_length": hp.context_length,
        "embedding_length": hp.d_model,
        "feed_forward_length": hp.d_ffn,
        "attention.head_count": hp.n_heads,
        "attention.head_count_kv": hp.n_kv_heads,
        "attention.key_length": hp.head_dim,
        "attention.value_length": hp.head_dim,
        "attention.layer_norm_rms_epsilon": hp.rms_eps,
        "rope.dimension_count": hp.rope_dims,
        "rope.freq_base": hp.rope_base,
        "vocab_size": hp.n_vocab,
    }
    if hp.rope_factor != 1:
        values |= {"rope.scaling.type": "linear", "rope.scaling.factor": hp.rope_factor}
    return {f"{hp.arch}.{name}": value for name, value in values.items()}


def common_config(hp: HyperParameters) -> dict[str, Any]:
    """The fields of config.json that all families spell alike. Raises UnsupportedError."""
    if hp.d_model % hp.n_heads:
        raise refusal(hp, "embed_dim", f"a multiple of the {hp.n_heads} heads", hp.d_model)
    if hp.rope_dims != hp.head_dim:
        raise refusal(hp, "rope_dims", f"the head's {hp.head_dim}", hp.rope_dims)
    return {
        "vocab_size": hp.n_vocab,
        "hidden_size": hp.d_model,
        "intermediate_size": hp.d_ffn,
        "num_hidden_layers": hp.n_layers,
        "num_attention_heads": hp.n_heads,
        "num_key_value_heads": hp.n_kv_heads,
        "head_dim": hp.head_dim,
        "max_position_embeddings": hp.context_length,
        "rms_norm_eps": decimal(hp.rms_eps),
        "tie_word_embeddings": hp.tied,
        "attention_bias": False,
        "attention_dropout": 0.0,
        # A token named here would get no gradient for its row of the embedding.
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
    }


def rope_parameters(base: float, factor: float = 1.0) -> dict[str, Any]:
    """transformers' description of a rotary embedding whose positions are divided by `factor`."""
    scaling: dict[str, Any] = {"rope_type": "default"}
    if factor != 1:
        scaling = {"rope_type": "linear", "factor": decimal(factor)}
    return {**scaling, "rope_theta": decimal(base)}


def decimal(value: float) -> float:
    """The shortest decimal that is the same f32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def refusal(hp: HyperParameters, what: str, wanted: str, found: object) -> UnsupportedError:
    """The error for a number that transformers' model of the family cannot have."""
    return UnsupportedError(f"{hp.arch}: {what} must be {wanted} for transformers, found {found}")
