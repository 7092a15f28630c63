"""What the families share on the way out: renaming, keys of the header, fields of config.json."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ck.errors import UnsupportedError, UsageError
from ck.frontend.architectures.outward import Array, Scalar
from ck.frontend.architectures.outward.config import ConfigReader, written
from ck.frontend.architectures.outward.llama3 import Llama3, llama3_of
from ck.frontend.hyperparameters import (
    CONTEXT_LIMIT,
    HEAD_DIM_LIMIT,
    HEAD_LIMIT,
    LAYER_LIMIT,
    VOCAB_LIMIT,
    WIDTH_LIMIT,
    HyperParameters,
)
from ck.frontend.rope import BETA_FAST, BETA_SLOW, YARN, yarn_attention

# Parts of a layer that all families call alike: GGUF's name -> transformers'.
LINEAR = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def names(hp: HyperParameters, parts: Mapping[str, str], biases: Collection[str] = ()) -> dict[str, str]:
    """GGUF name -> transformers' name of every tensor; `parts` are those of each layer, `biases` some of them
    that have a bias beside their weight."""
    found = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if not hp.tied:
        found["output.weight"] = "lm_head.weight"
    for layer in range(hp.n_layers):
        found |= {
            f"blk.{layer}.{ours}.weight": f"model.layers.{layer}.{theirs}.weight"
            for ours, theirs in parts.items()
        }
        found |= {f"blk.{layer}.{name}.bias": f"model.layers.{layer}.{parts[name]}.bias" for name in biases}
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


def as_is(name: str, values: Array) -> Array:
    """What `rename` makes of a tensor that both sides store alike."""
    return values


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
    if hp.rope_scaling == YARN or hp.rope_factor != 1:
        values |= {"rope.scaling.type": hp.rope_scaling, "rope.scaling.factor": hp.rope_factor}
    if hp.rope_scaling == YARN:
        values |= {
            "rope.scaling.original_context_length": hp.rope_original_context,
            "rope.scaling.yarn_beta_fast": hp.rope_beta_fast,
            "rope.scaling.yarn_beta_slow": hp.rope_beta_slow,
        }
    if hp.rope_attention_factor != 1:
        values["rope.scaling.attn_factor"] = hp.rope_attention_factor
    return {f"{hp.arch}.{name}": value for name, value in values.items()}


def common_config(hp: HyperParameters, partial: bool = False) -> dict[str, Any]:
    """The fields of config.json that all families spell alike; `partial`: of a head some columns may turn.

    Raises UnsupportedError.
    """
    if hp.d_model % hp.n_heads:
        raise refusal(hp, "embed_dim", f"a multiple of the {hp.n_heads} heads", hp.d_model)
    if hp.rope_dims != hp.head_dim and not partial:
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


def plain_config(hp: HyperParameters, name: str, kind: str, partial: bool = False) -> dict[str, Any]:
    """The fields of config.json of class `name`, model_type `kind`, but those for a window: a gate of SiLU,
    scores divided by the root of the head's width. Raises UnsupportedError."""
    if not math.isclose(hp.attention_scale, 1 / math.sqrt(hp.head_dim), rel_tol=2**-24):
        raise refusal(hp, "attention_scale", f"1/sqrt({hp.head_dim})", hp.attention_scale)
    return {
        "architectures": [name],
        "model_type": kind,
        **common_config(hp, partial),
        "hidden_act": "silu",
        "rope_parameters": scaled_rope(hp),
    }


def refuse_windows(config: ConfigReader) -> None:
    """Raise UnsupportedError when some layers of a config.json have a window."""
    config.refuse("use_sliding_window", False)
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and set(map(written, cast(list[Any], kinds))) - {"full_attention"}:
        raise config.unsupported("field layer_types must have full_attention only")


def read_config(
    config: ConfigReader, arch: str, rope: Mapping[str, Any] | None = None, partial: bool = False
) -> HyperParameters:
    """The numbers that all families spell alike in config.json, every layer global.

    rope      transformers' description of the rotary embedding, of a family that keeps it in a place of its
              own
    partial   whether a part of a head may turn

    Raises MalformedError, UnsupportedError.
    """
    config.refuse("attention_bias", False)
    n_heads, n_kv_heads = _heads(config)
    d_model = config.integer("hidden_size", 1, WIDTH_LIMIT)
    head_dim = _head_dim(config, d_model, n_heads)
    if rope is None:
        given_rope = config.get("rope_scaling") or config.get("rope_parameters")
        rope = config.checked_mapping(given_rope, "rotary parameters")
    rope_dims = _turning(config, rope, head_dim) if partial else head_dim
    fields = read_rope(config, rope, rope_dims, partial=partial)
    return HyperParameters(
        arch=arch,
        n_layers=config.integer("num_hidden_layers", 1, LAYER_LIMIT),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        d_ffn=config.integer("intermediate_size", 1, WIDTH_LIMIT),
        n_vocab=config.integer("vocab_size", 1, VOCAB_LIMIT),
        context_length=config.integer("max_position_embeddings", 1, CONTEXT_LIMIT),
        rms_eps=_rms_eps(config),
        rope_dims=rope_dims,
        rope_base_local=fields["rope_base"],
        sliding_window=0,
        window_pattern=1,
        attention_scale=1 / math.sqrt(head_dim),
        tied=config.flag("tie_word_embeddings"),
        **fields,
    )


def _heads(config: ConfigReader) -> tuple[int, int]:
    n_heads = config.integer("num_attention_heads", 1, HEAD_LIMIT)
    given = config.get("num_key_value_heads")
    n_kv_heads = n_heads if given is None else config.integer("num_key_value_heads", 1, n_heads)
    if n_heads % n_kv_heads:
        raise config.error(f"field num_key_value_heads must divide the {n_heads} heads, found {n_kv_heads}")
    return n_heads, n_kv_heads


def _head_dim(config: ConfigReader, d_model: int, n_heads: int) -> int:
    if config.get("head_dim") is None:
        if d_model % n_heads:
            raise config.error(f"field num_attention_heads must divide the width {d_model}, found {n_heads}")
        head_dim = d_model // n_heads
    else:
        head_dim = config.integer("head_dim", 1, HEAD_DIM_LIMIT)
    if head_dim % 2 or head_dim > HEAD_DIM_LIMIT:
        raise config.error(f"heads must be even and at most {HEAD_DIM_LIMIT} wide, found {head_dim}")
    if n_heads * head_dim > WIDTH_LIMIT:
        raise config.error(f"heads must be at most {WIDTH_LIMIT} wide together, found {n_heads * head_dim}")
    return head_dim


def _rms_eps(config: ConfigReader) -> float:
    eps = config.positive("rms_norm_eps")
    if eps >= 1:
        raise config.error(f"field rms_norm_eps must be between 0 and 1, found {eps}")
    return eps


def _share(config: ConfigReader, given: Mapping[str, Any]) -> Any:
    """What `given`, a description of the rotary embedding, says of the part of a head that turns."""
    return given.get("partial_rotary_factor", config.get("partial_rotary_factor"))


def _turning(config: ConfigReader, given: Mapping[str, Any], head_dim: int) -> int:
    """Columns of a head that turn."""
    share = _share(config, given)
    if share is None:
        return head_dim
    dims = int(head_dim * share) if type(share) in (int, float) and 0 < share <= 1 else 0
    if dims < 2 or dims % 2:
        raise config.error(
            f"partial_rotary_factor must turn an even number of the {head_dim} columns, found "
            f"{written(share)}"
        )
    return dims


def read_rope(
    config: ConfigReader,
    given: Mapping[str, Any],
    dims: int,
    theta: str = "rope_theta",
    partial: bool = False,
) -> dict[str, Any]:
    """The fields of HyperParameters that describe a rotary embedding of `dims` columns.

    `given` is transformers' description, rope_scaling of release 4 or rope_parameters of release 5; where it
    names no base, that is the field `theta`. Raises MalformedError, UnsupportedError.
    """
    what = "rotary parameters"
    share = _share(config, given)
    if share is not None and share != 1 and not partial:
        raise config.unsupported(f"partial_rotary_factor must be absent or 1, found {written(share)}")
    named = given.get("rope_theta")
    base = config.positive(theta) if named is None else config.checked_positive(named, f"base of {what}")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return {"rope_base": base, "rope_factor": 1.0}
    if kind not in ("linear", "llama3", YARN):
        known = "default, linear, llama3 or yarn"
        raise config.unsupported(f"kind of {what} must be {known}, found {written(kind)}")
    if kind == YARN and not base > 1:
        raise config.error(f"base of {what} must be above 1, found {base}")
    numbers = _Numbers(config, given, what)
    factor = numbers.positive("factor")
    if kind == "llama3":
        return {"rope_base": base, "rope_factor": 1.0, "rope_divisors": numbers.divisors(factor, base, dims)}
    return {"rope_base": base, "rope_factor": factor} | (numbers.yarn(factor) if kind == YARN else {})


@dataclass(frozen=True)
class _Numbers:
    """The numbers of a scaled rotary embedding. Each raises MalformedError, UnsupportedError."""

    config: ConfigReader
    given: Mapping[str, Any]
    what: str

    def positive(self, name: str, default: float | None = None) -> float:
        value = self.given.get(name)
        return self.config.checked_positive(default if value is None else value, f"{name} of {self.what}")

    def original_context(self) -> int:
        name = "original_max_position_embeddings"
        found = self.config.get(name) or self.given.get(name) or self.config.get("max_position_embeddings")
        return ConfigReader({name: found}, self.config.where).integer(name, 1, CONTEXT_LIMIT)

    def divisors(self, factor: float, base: float, dims: int) -> tuple[float, ...]:
        low, high = self.positive("low_freq_factor"), self.positive("high_freq_factor")
        if not low < high:
            raise self.config.error(f"high_freq_factor of {self.what} must be above {low}, found {high}")
        return Llama3(factor, low, high, self.original_context()).divisors(base, dims)

    def yarn(self, factor: float) -> dict[str, Any]:
        rest = ConfigReader(self.given, self.config.where)
        for name, neutral in (("truncate", True), ("mscale", 0), ("mscale_all_dim", 0)):
            rest.refuse(name, neutral)
        fields: dict[str, Any] = {
            "rope_scaling": YARN,
            "rope_original_context": self.original_context(),
            "rope_beta_fast": self.positive("beta_fast", BETA_FAST),
            "rope_beta_slow": self.positive("beta_slow", BETA_SLOW),
        }
        if self.given.get("attention_factor") is not None:
            whole = self.given["attention_factor"]
            self.config.checked_positive(whole, f"attention_factor of {self.what}")
            fields["rope_attention_factor"] = float(np.float32(whole / yarn_attention(factor)))
        return fields


def scaled_rope(hp: HyperParameters) -> dict[str, Any]:
    """transformers' description of the rotary embedding of global layers. Raises UnsupportedError."""
    if hp.rope_scaling == YARN:
        fields: dict[str, Any] = {
            "rope_type": YARN,
            "factor": decimal(hp.rope_factor),
            "original_max_position_embeddings": hp.rope_original_context,
            "beta_fast": decimal(hp.rope_beta_fast),
            "beta_slow": decimal(hp.rope_beta_slow),
            "rope_theta": decimal(hp.rope_base),
        }
        own = hp.rope_attention_factor
        return fields if own == 1 else fields | {"attention_factor": own * yarn_attention(hp.rope_factor)}
    if not hp.rope_divisors:
        return rope_parameters(hp.rope_base, hp.rope_factor)
    found = llama3_of(hp.rope_divisors, hp.rope_base) if hp.rope_factor == 1 else None
    if found is None:
        raise refusal(hp, "rope_divisors", "those of llama3's scaling", "others")
    return {
        "rope_type": "llama3",
        "factor": decimal(found.factor),
        "low_freq_factor": found.low_freq_factor,
        "high_freq_factor": found.high_freq_factor,
        "original_max_position_embeddings": found.original_context,
        "rope_theta": decimal(hp.rope_base),
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
