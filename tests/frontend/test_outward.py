"""Names and conventions on the way out: transformers' own parameters, and back again bit for bit."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ck.errors import CkError, MalformedError, UnsupportedError, UsageError
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.architectures.outward import (
    HUGGINGFACE_CLASSES,
    Kind,
    Outward,
    family_of_config,
    find_outward,
)
from ck.frontend.architectures.outward.config import ConfigReader
from ck.frontend.decays import decay_name
from ck.frontend.hyperparameters import HyperParameters
from tests.frontend.random_models import random_weights, small

CASES = [(arch, tied) for arch in ARCHITECTURES for tied in (True, False)]


def outward(arch: str) -> Outward:
    found = find_outward(arch)
    assert found is not None
    return found


def huggingface_model(arch: str, config: dict[str, Any]) -> Any:
    import transformers

    fields = {name: value for name, value in config.items() if name not in ("model_type", "architectures")}
    own = transformers.AutoConfig.for_model(config["model_type"], **fields)
    model = transformers.AutoModelForCausalLM.from_config(own)
    assert type(model).__name__ == config["architectures"][0]
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_family_has_its_outward_side(arch: str) -> None:
    names = outward(arch).huggingface_names(small(arch))
    assert set(names) == set(random_weights(small(arch)))
    assert len({*names.values()}) == len(names)
    assert find_outward(arch + "x") is None


@pytest.mark.oracle
@pytest.mark.parametrize(("arch", "tied"), CASES)
def test_names_and_shapes_are_those_of_transformers_parameters(arch: str, tied: bool) -> None:
    hp = small(arch, tied=tied)
    model = huggingface_model(arch, outward(arch).huggingface_config(hp))
    theirs = {name: tuple(values.shape) for name, values in model.named_parameters()}
    ours = outward(arch).to_huggingface(hp, random_weights(hp))
    assert {name: values.shape for name, values in ours.items()} == theirs


@pytest.mark.parametrize("kind", ["weight", "gradient", "moment"])
@pytest.mark.parametrize(("arch", "tied"), CASES)
def test_there_and_back_is_the_identity(arch: str, tied: bool, kind: Kind) -> None:
    hp, family = small(arch, tied=tied), outward(arch)
    weights = random_weights(hp)
    assert min(values.min() for name, values in weights.items() if "_norm" in name) > 0.5
    back = family.from_huggingface(hp, family.to_huggingface(hp, weights, kind), kind)
    assert list(back) == list(weights)
    for name, values in weights.items():
        assert back[name].dtype == np.float32
        assert np.array_equal(back[name], values), name


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_gradient_goes_as_a_small_change_of_the_weights_does(arch: str) -> None:
    hp, family = small(arch), outward(arch)
    weights, change = random_weights(hp), random_weights(hp, 1)
    moved = {name: values + change[name] for name, values in weights.items()}
    before, after = (family.to_huggingface(hp, tensors) for tensors in (weights, moved))
    for name, values in family.to_huggingface(hp, change, "gradient").items():
        np.testing.assert_allclose(after[name] - before[name], values, rtol=0, atol=2**-20, err_msg=name)


def test_rows_of_llamas_q_and_k_change_their_order_within_a_head() -> None:
    hp = small("llama", head_dim=16, rope_dims=16)
    rows = np.arange(4 * 16, dtype=np.float32)[:, None].repeat(64, 1)
    got = outward("llama").to_huggingface(hp, {"blk.1.attn_q.weight": rows, "blk.0.attn_k.weight": rows[:32]})
    one_head = [*range(0, 16, 2), *range(1, 16, 2)]
    assert got["model.layers.1.self_attn.q_proj.weight"][16:32, 0].tolist() == [16 + n for n in one_head]
    assert got["model.layers.0.self_attn.k_proj.weight"][:16, 0].tolist() == one_head


def test_gemmas_gains_lose_their_one_and_nothing_else_does() -> None:
    hp = small("gemma3")
    weights = {"blk.0.attn_q_norm.weight": np.full(32, 1.5, np.float32), "token_embd.weight": np.ones((2, 2))}
    got = outward("gemma3").to_huggingface(hp, weights)
    assert got["model.layers.0.self_attn.q_norm.weight"].tolist() == [0.5] * 32
    assert got["model.embed_tokens.weight"].tolist() == [[1, 1], [1, 1]]
    wide = {"output_norm.weight": np.full(3, 1.5)}
    assert outward("gemma3").to_huggingface(hp, wide)["model.norm.weight"].dtype == np.float64


def test_value_heads_lie_by_their_key_heads_in_transformers() -> None:
    """Two key heads of two value heads each: those of the first are 0 and 2 in a GGUF file."""
    hp = small("qwen35")
    keys, width, order = 2 * 2 * 16, 24, [0, 2, 1, 3]
    rows = [*range(keys), *(keys + width * head + row for head in order for row in range(width))]
    mixed, block = np.arange(keys + 4 * width, dtype=np.float32)[:, None], "model.layers.0.linear_attn."
    names = ("attn_qkv", "ssm_conv1d", "attn_gate", "ssm_beta", "ssm_out")
    values = (mixed, mixed, mixed[: 4 * width], mixed[:4], mixed[: 4 * width].T)
    tensors = {f"blk.0.{name}.weight": array for name, array in zip(names, values, strict=True)}
    got = outward("qwen35").to_huggingface(hp, tensors | {"blk.0.ssm_dt.bias": np.arange(4.0)})
    assert got[block + "in_proj_qkv.weight"][:, 0].tolist() == rows
    assert got[block + "conv1d.weight"][:, 0, 0].tolist() == rows
    assert got[block + "in_proj_z.weight"][:, 0].tolist() == [row - keys for row in rows[keys:]]
    assert got[block + "out_proj.weight"][0].tolist() == [row - keys for row in rows[keys:]]
    assert got[block + "in_proj_b.weight"][:, 0].tolist() == got[block + "dt_bias"].tolist() == order


def test_decays_are_logarithms_in_transformers_whichever_form_a_model_holds() -> None:
    logarithm = np.array([-2.0, 0.0, 1.0, 2.5], np.float32)
    for hp in (small("qwen35"), small("qwen35", log_decay=False)):
        name = decay_name(hp, 0)
        held = logarithm if hp.log_decay else -np.exp(logarithm)
        there = outward("qwen35").to_huggingface(hp, {name: held})
        [theirs] = there.values()
        np.testing.assert_allclose(theirs, logarithm[[0, 2, 1, 3]], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(outward("qwen35").from_huggingface(hp, there)[name], held, rtol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_no_row_of_the_embedding_is_left_without_a_gradient(arch: str) -> None:
    """A config that names a padding token makes torch leave its row out."""
    model = huggingface_model(arch, outward(arch).huggingface_config(small(arch)))
    assert model.model.embed_tokens.padding_idx is None


@pytest.mark.oracle
def test_rotary_numbers_reach_transformers() -> None:
    hp = small("llama", rope_base=5e5, rope_factor=4.0)
    plain, scaled = (
        huggingface_model("llama", outward("llama").huggingface_config(numbers)).model.rotary_emb.inv_freq
        for numbers in (replace(hp, rope_factor=1.0), hp)
    )
    want = 5e5 ** -(np.arange(0, 32, 2) / 32)
    np.testing.assert_allclose(plain.numpy(), want, rtol=1e-6)
    np.testing.assert_allclose(scaled.numpy(), want / 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("arch", "changes", "words"),
    [
        ("llama", {"d_model": 66}, "embed_dim must be a multiple of the 4 heads for transformers, found 66"),
        ("llama", {"rope_dims": 16}, "rope_dims must be the head's 32 for transformers, found 16"),
        ("llama", {"sliding_window": 8, "window_pattern": 2}, "window_pattern must be 0, a window in every"),
        ("smollm3", {"sliding_window": 8}, "sliding_window must be 0 for transformers, found 8"),
        ("llama", {"attention_scale": 0.5}, r"attention_scale must be 1/sqrt\(32\) for transformers, found"),
        ("gemma3", {"attention_scale": 0.15}, r"attention_scale must be 1/sqrt\(n\) of a whole n"),
    ],
)
def test_what_transformers_cannot_have_is_refused(arch: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedError, match=f"^{arch}: {words}"):
        outward(arch).huggingface_config(small(arch, **changes))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_tensor_of_another_model_is_refused(arch: str) -> None:
    tensors = {"output.weight": np.zeros((2, 2), np.float32)}
    with pytest.raises(UsageError, match=rf"^output\.weight: must be a tensor of the {arch} model"):
        outward(arch).to_huggingface(small(arch), tensors)
    with pytest.raises(UsageError, match=r"^output\.weight: must be a tensor of"):
        outward(arch).from_huggingface(small(arch), tensors)


def reader(fields: dict[str, Any]) -> ConfigReader:
    return ConfigReader(fields, "config.json")


@pytest.mark.parametrize(("arch", "tied"), CASES)
def test_a_config_gives_back_the_numbers_it_was_written_from(arch: str, tied: bool) -> None:
    hp = small(arch, tied=tied, rope_factor=4.0)
    config = reader(json.loads(json.dumps(outward(arch).huggingface_config(hp))))
    assert family_of_config(config) == arch
    assert outward(arch).from_huggingface_config(config) == hp


WINDOWED = [
    small("llama").with_window(5),
    small("qwen2", n_layers=5).with_window(5, first=3),
    small("qwen2", n_layers=5).with_window(5),
    small("qwen3", n_layers=5).with_window(5, pattern=2),
]


@pytest.mark.oracle
@pytest.mark.parametrize("hp", WINDOWED, ids=lambda hp: f"{hp.arch}-{hp.window_pattern}-{hp.window_first}")
def test_windows_are_those_of_transformers_layers(hp: HyperParameters) -> None:
    config = outward(hp.arch).huggingface_config(hp)
    assert outward(hp.arch).from_huggingface_config(reader(json.loads(json.dumps(config)))) == hp
    model = huggingface_model(hp.arch, config)
    of_the_model = getattr(model.config, "sliding_window", None)
    theirs = [getattr(layer.self_attn, "sliding_window", of_the_model) for layer in model.model.layers]
    assert [hp.layer_window(layer) for layer in range(hp.n_layers)] == [window or 0 for window in theirs]


# What the published config.json says, and what no other test has in its way.
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Qwen2.5-0.5B": (
        {
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
            "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 32768,
            "max_window_layers": 24, "num_attention_heads": 14, "num_hidden_layers": 24,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
            "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936,
        },
        {"head_dim": 64, "rope_base": 1e6, "sliding_window": 0, "tied": True, "context_length": 32768},
    ),
    "Mistral-7B-v0.1": (
        {
            "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu",
            "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
            "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
            "tie_word_embeddings": False, "vocab_size": 32000,
        },
        {"head_dim": 128, "rope_base": 1e4, "sliding_window": 4096, "window_pattern": 0, "window_first": 0},
    ),
    "Mistral-7B-v0.3": (
        {
            "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu",
            "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
            "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None,
            "tie_word_embeddings": False, "vocab_size": 32768,
        },
        {"rope_base": 1e6, "sliding_window": 0, "window_apart": True},
    ),
    "SmolLM3-3B": (
        {
            "architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "hidden_act": "silu",
            "attention_bias": False, "mlp_bias": False, "hidden_size": 2048, "intermediate_size": 11008,
            "layer_types": ["full_attention"] * 36, "max_position_embeddings": 65536, "max_window_layers": 28,
            "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9, "num_attention_heads": 16,
            "num_hidden_layers": 36, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_scaling": None,
            "rope_theta": 5000000.0, "sliding_window": None, "use_sliding_window": False,
            "vocab_size": 128256,
        },
        {"head_dim": 128, "rope_base": 5e6, "tied": True, "context_length": 65536},
    ),
}  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read_as_transformers_reads_them(name: str) -> None:
    import transformers

    fields, numbers = PUBLISHED[name]
    config = reader(fields)
    family = outward(family_of_config(config))
    hp = family.from_huggingface_config(config)
    assert {field: getattr(hp, field) for field in numbers} == numbers
    given = {field: value for field, value in fields.items() if field not in ("model_type", "architectures")}
    theirs = transformers.AutoConfig.for_model(fields["model_type"], **given).to_dict()
    assert family.from_huggingface_config(reader(theirs)) == hp


@pytest.mark.oracle
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_a_config_leaves_out_is_what_transformers_has_there(arch: str) -> None:
    import transformers

    for kind, known in HUGGINGFACE_CLASSES.items():
        # Of a model that sees, the language model's fields are another kind's.
        if known.family == arch and not known.name.endswith("ConditionalGeneration"):
            whole = transformers.AutoConfig.for_model(kind).to_dict()
            bare = outward(arch).from_huggingface_config(reader({"model_type": kind}))
            assert bare == outward(arch).from_huggingface_config(reader(whole))
            assert bare.n_vocab == whole["vocab_size"]


# config.json of release 4, without the fields that `small` needs no other word for.
OLD = {
    "llama": {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 8}, "head_dim": None},
    "gemma3_text": {
        "rope_theta": 5e5, "rope_local_base_freq": 2e4, "sliding_window_pattern": 4, "num_hidden_layers": 9,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "query_pre_attn_scalar": 168,
        "layer_types": None,
    },
}  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("kind", OLD)
def test_configs_of_release_4_mean_the_same(kind: str) -> None:
    import transformers

    family = outward(HUGGINGFACE_CLASSES[kind].family)
    ours = family.from_huggingface_config(reader(OLD[kind]))
    theirs = transformers.AutoConfig.for_model(kind, **OLD[kind]).to_dict()
    assert ours == family.from_huggingface_config(reader(theirs))
    assert (ours.rope_base, ours.rope_factor) == (5e5, 8.0)
    if kind == "gemma3_text":
        assert (ours.rope_base_local, ours.window_pattern) == (2e4, 4)
        assert ours.attention_scale == 1 / math.sqrt(168)


WINDOW = {"use_sliding_window": True, "sliding_window": 8}
MIXED = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
REFUSED = [
    ("llama", {"model_type": "mamba"}, "field model_type must be one of gemma3_text, llama, .*found mamba"),
    ("llama", {"model_type": None}, "field model_type must be one of .*, found null"),
    ("llama", {"model_type": ["llama"]}, "field model_type must be one of .*, found a list of 1"),
    ("llama", {"architectures": ["LlamaForSequenceClassification"]}, r"architectures must be \[LlamaForCau"),
    ("llama", {"architectures": "LlamaForCausalLM"}, r"field architectures must be \[LlamaForCausalLM\]"),
    ("llama", {"attention_bias": True}, "field attention_bias must be absent or false, found true"),
    ("llama", {"mlp_bias": True}, "field mlp_bias must be absent or false, found true"),
    ("llama", {"hidden_act": "gelu"}, "field hidden_act must be absent or silu, found gelu"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor must be absent or 1, found 0.5"),
    ("llama", {"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, "kind of rotary .*found longrope"),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 0.7}}, "mscale must be absent or 0"),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 4.0, "truncate": False}}, "truncate must be abs"),
    ("llama", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "kind of rotary parameters .*dynamic"),
    ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "field layer_types must have full_attention only"),
    ("qwen2", {**WINDOW, "num_hidden_layers": 4, "layer_types": MIXED}, "layer_types must have a window"),
    ("smollm3", {"use_sliding_window": True}, "field use_sliding_window must be absent or false, found true"),
    ("smollm3", {"no_rope_layers": [1, 1, 0, 1, 1]}, "field no_rope_layers must be 0 for every 4th of 5 lay"),
    ("smollm3", {"no_rope_layers": 4}, "field no_rope_layers must be 0 for every 4th of 5 layers, 1 for"),
    ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 3}, "no_rope_layer_interval must be a"),
    ("gemma3", {"hidden_activation": "gelu"}, "field hidden_activation must be absent or gelu_pytorch_tanh"),
    ("gemma3", {"final_logit_softcapping": 30.0}, "field final_logit_softcapping must be absent, found 30.0"),
    ("gemma3", {"attn_logit_softcapping": 50.0}, "field attn_logit_softcapping must be absent, found 50.0"),
    ("gemma3", {"use_bidirectional_attention": True}, "field use_bidirectional_attention must be ab"),
    ("gemma3", {"layer_types": ["full_attention", "full_attention", "sliding_attention"]}, "every n-th"),
    ("gemma3", {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2}}}, "must have"),
]  # fmt: skip

BROKEN = [
    ("llama", {"hidden_size": "64"}, "field hidden_size must be a whole number from 1 to 1048576, found 64"),
    ("llama", {"hidden_size": 0}, "field hidden_size must be a whole number from 1 to 1048576, found 0"),
    ("llama", {"hidden_size": True}, "field hidden_size must be a whole number .*, found true"),
    ("llama", {"hidden_size": None}, "field hidden_size must be a whole number .*, found null"),
    ("llama", {"num_hidden_layers": 1e300}, r"field num_hidden_layers must be .*, found 1e\+300"),
    ("llama", {"num_attention_heads": 2**70}, "field num_attention_heads must be a whole number from 1 to"),
    ("llama", {"num_key_value_heads": 3}, "field num_key_value_heads must divide the 4 heads, found 3"),
    ("llama", {"head_dim": None, "hidden_size": 66}, "num_attention_heads must divide the width 66, found 4"),
    ("llama", {"head_dim": 31}, "heads must be even and at most 4096 wide, found 31"),
    ("llama", {"head_dim": 4096, "num_attention_heads": 1024}, "heads must be at most 1048576 wide together"),
    ("llama", {"rms_norm_eps": math.nan}, "field rms_norm_eps must be a finite number above 0, found nan"),
    ("llama", {"rms_norm_eps": 1e-60}, "field rms_norm_eps must be a finite number above 0, found 1e-60"),
    ("llama", {"rms_norm_eps": 10**400}, "field rms_norm_eps must be a finite number above 0, found 100000"),
    ("llama", {"rms_norm_eps": 2}, "field rms_norm_eps must be between 0 and 1, found 2.0"),
    ("llama", {"tie_word_embeddings": "yes"}, "field tie_word_embeddings must be true or false, found yes"),
    ("llama", {"rope_parameters": 3}, "rotary parameters must be an object, found 3"),
    ("llama", {"rope_scaling": {"type": "linear"}}, "factor of rotary parameters must be a finite .*null"),
    ("llama", {"rope_scaling": {"type": "llama3", "factor": 8}}, "low_freq_factor of rotary .*found null"),
    ("llama", {"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "high_freq_factor of .* above 1.0"),
    ("llama", {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": "x"}}, "original_max.*found x"),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": -1}}, "beta_fast of rotary"),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": "x"}}, "attention_fac"),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 4.0, "rope_theta": 1}}, "base of .* above 1,"),
    ("llama", {"rope_parameters": {"rope_theta": -1}}, "base of rotary parameters must be a finite"),
    ("qwen2", {**WINDOW, "layer_types": ["full_attention"]}, "field layer_types must list 2 layers, each"),
    ("qwen2", {**WINDOW, "layer_types": ["full_attention", 3]}, "field layer_types must list 2 layers, each"),
    ("qwen2", {**WINDOW, "sliding_window": "8"}, "field sliding_window must be a whole number .*, found 8"),
    ("qwen2", {**WINDOW, "layer_types": None, "max_window_layers": -1}, "max_window_layers must be a whole"),
    ("qwen2", {"use_sliding_window": "no"}, "field use_sliding_window must be true or false, found no"),
    ("gemma3", {"sliding_window": None}, "field sliding_window must be a whole number .*, found null"),
    ("gemma3", {"layer_types": ["full_attention"]}, "field layer_types must list 3 layers, found a list"),
    ("gemma3", {"layer_types": 6}, "field layer_types must list 3 layers, found 6"),
    ("gemma3", {"rope_parameters": []}, "field rope_parameters must be an object, found a list of 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "changes", "words", "error"),
    [(*case, UnsupportedError) for case in REFUSED] + [(*case, MalformedError) for case in BROKEN],
)
def test_a_config_that_ck_cannot_run_is_refused_by_its_field(
    arch: str, changes: dict[str, Any], words: str, error: type[CkError]
) -> None:
    config = reader(outward(arch).huggingface_config(small(arch)) | changes)
    with pytest.raises(error, match=f"^config.json: .*{words}"):
        outward(family_of_config(config)).from_huggingface_config(config)


def test_fields_that_compute_nothing_are_no_reason_to_refuse() -> None:
    config = outward("llama").huggingface_config(small("llama"))
    harmless = {"use_cache": False, "attention_dropout": 0.5, "made_up": [1], "transformers_version": "9"}
    assert outward("llama").from_huggingface_config(reader(config | harmless)) == small("llama")
    assert family_of_config(reader(config | {"architectures": None})) == "llama"
