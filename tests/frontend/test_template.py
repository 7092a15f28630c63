"""`ck.template`: sizes become a family's tensors, and every mistake is told at once."""

from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import UsageError
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.architectures.templates import TEMPLATES
from ck.frontend.template import Template, template_from

SIZES: dict[str, Any] = {
    "layers": 3,
    "embed_dim": 40,
    "hidden_dim": 56,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 12,
    "vocab_size": 61,
    "context_len": 33,
}
every_family = pytest.mark.parametrize("family", ARCHITECTURES)


def refusal(family: str = ARCHITECTURES[0], **changed: Any) -> str:
    """The one line for sizes that would be right but for what is given."""
    with pytest.raises(UsageError) as caught:
        ck.template(family, **{**SIZES, **changed})
    line = str(caught.value)
    assert line.startswith("template: ")
    assert "\n" not in line
    return line.removeprefix("template: ")


@every_family
def test_sizes_flow(family: str) -> None:
    made = ck.template(family, **SIZES)
    hp = made.hp
    assert (hp.arch, hp.n_layers, hp.d_model, hp.d_ffn, hp.n_vocab) == (family, 3, 40, 56, 61)
    assert (hp.n_heads, hp.n_kv_heads, hp.head_dim, hp.context_length) == (4, 2, 12, 33)
    shapes = made.shapes
    assert shapes["token_embd.weight"] == (61, 40)
    assert shapes["output_norm.weight"] == (40,)
    # Of a product of queries some make a second row of each, a gate.
    query_rows = {(4 * 12, 40), (2 * 4 * 12, 40)}
    for layer in hp.attention_layers:
        block = f"blk.{layer}."
        assert shapes[block + "attn_q.weight"] in query_rows
        assert shapes[block + "attn_k.weight"] == shapes[block + "attn_v.weight"] == (2 * 12, 40)
        assert shapes[block + "attn_output.weight"] == (40, 4 * 12)
    for layer in range(3):
        block = f"blk.{layer}."
        assert shapes[block + "ffn_gate.weight"] == shapes[block + "ffn_up.weight"] == (56, 40)
        assert shapes[block + "ffn_down.weight"] == (40, 56)
    assert "blk.3.ffn_up.weight" not in shapes
    assert made.n_parameters == sum(int(np.prod(shape)) for shape in shapes.values())


@every_family
def test_what_is_left_out_follows(family: str) -> None:
    needed = {name: SIZES[name] for name in ("layers", "embed_dim", "hidden_dim", "num_heads", "vocab_size")}
    hp = ck.template(family, **needed).hp
    assert (hp.n_kv_heads, hp.head_dim, hp.context_length) == (4, 10, 512)
    assert hp.rope_dims == (2 if hp.recurrent_layers else 10)


@every_family
def test_options_go_before_the_familys_defaults(family: str) -> None:
    tied, apart = (ck.template(family, tied=tied, **SIZES) for tied in (True, False))
    assert apart.shapes["output.weight"] == (61, 40)
    assert "output.weight" not in tied.shapes
    hp = ck.template(family, rope_base=5e5, rms_eps=1e-5, **SIZES).hp
    assert hp.rope_base == 5e5
    assert hp.rms_eps == float(np.float32(1e-5))


@every_family
def test_numbers_make_the_template_again(family: str) -> None:
    made = ck.template(family, **SIZES)
    assert template_from(made.hp) == made


@every_family
def test_weights_are_of_the_templates_shapes(family: str) -> None:
    made: Template = ck.template(family, **SIZES)
    weights = made.initial_weights("xavier_uniform", seed=1)
    assert {name: value.shape for name, value in weights.items()} == dict(made.shapes)
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    with pytest.raises(UsageError, match=r"init: one of .*normal_0p02.* is required, found ones"):
        made.initial_weights("ones")


def test_every_mistake_at_once() -> None:
    line = refusal(layers=0, embed_dim=-8, vocab_size=1 << 40, num_kv_heads=3, head_dim=5, rms_eps=0.0)
    assert line == (
        "layers must be a whole number from 1 to 1024, found 0; "
        "embed_dim must be a whole number from 1 to 1048576, found -8; "
        f"vocab_size must be a whole number from 1 to 4194304, found {1 << 40}; "
        "num_kv_heads must divide num_heads 4, found 3; "
        "head_dim must be even, found 5; "
        "rms_eps must be a number above 0 and below 1.0, found 0.0"
    )


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"layers": 2.5}, "layers must be a whole number from 1 to 1024, found 2.5"),
        ({"layers": "4"}, "layers must be a whole number from 1 to 1024, found 4"),
        ({"num_heads": True}, "num_heads must be a whole number from 1 to 1024, found True"),
        ({"num_heads": 0, "head_dim": None}, "num_heads must be a whole number from 1 to 1024, found 0"),
        (
            {"embed_dim": 42, "head_dim": None},
            "head_dim must be a whole number from 1 to 512, found 10.5",
        ),
        ({"rope_base": 0}, "rope_base must be a number above 0 and below inf, found 0"),
        ({"rope_base": "x"}, "rope_base must be a number above 0 and below inf, found x"),
        ({"tied": "no"}, "tied must be True or False, found 'no'"),
        ({"rope_base": float("nan")}, "rope_base must be a number above 0 and below inf, found nan"),
        ({"rms_eps": -1e-6}, "rms_eps must be a number above 0 and below 1.0, found -1e-06"),
        (
            {"sliding_window": -1},
            f"sliding_window must be a whole number from 1 to {16 << 20}, found -1",
        ),
        ({"colour": 1, "bias": 2}, "has no option bias, colour"),
    ],
)
def test_a_mistake_names_what_is_required_and_what_was_found(changed: dict[str, Any], line: str) -> None:
    assert refusal(**changed) == line


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    assert refusal("mamba") == f"one of {', '.join(TEMPLATES)} is required, found mamba"


def test_a_template_may_be_another_familys_architecture_with_defaults_of_its_own() -> None:
    needed = {name: SIZES[name] for name in ("layers", "embed_dim", "hidden_dim", "num_heads", "vocab_size")}
    hp = ck.template("nanbeige", **needed).hp
    assert (hp.arch, hp.head_dim, hp.rope_dims, hp.rope_base, hp.tied) == ("llama", 128, 128, 7e7, False)
    assert hp.rms_eps == float(np.float32(1e-5))
    hp = ck.template("nanbeige", tied=True, rope_base=1e4, **SIZES).hp
    assert (hp.head_dim, hp.rope_base, hp.tied) == (12, 1e4, True)
    assert set(ARCHITECTURES) < set(TEMPLATES)


def test_defaults_are_those_of_published_models() -> None:
    numbers = {
        family: (hp.rope_base, hp.rms_eps, hp.tied)
        for family in ARCHITECTURES
        for hp in [ck.template(family, **SIZES).hp]
    }
    eps = float(np.float32(1e-6))
    assert numbers == {
        "gemma3": (1e6, eps, True), "llama": (1e4, eps, False), "qwen2": (1e6, eps, True),
        "qwen3": (1e6, eps, True), "qwen35": (1e7, eps, True), "smollm3": (5e6, eps, True),
    }  # fmt: skip


def test_a_recurrent_familys_layers_have_sizes_of_their_own() -> None:
    hp = ck.template("qwen35", **{**SIZES, "layers": 8}).hp
    assert hp.attention_layers == (3, 7)
    assert (hp.n_state_heads, hp.n_state_keys, hp.state_key_dim, hp.state_value_dim) == (4, 2, 12, 12)
    assert (hp.conv_taps, hp.log_decay) == (4, True)
    own = {"state_heads": 6, "state_keys": 3, "state_key_dim": 8, "state_value_dim": 10, "conv_taps": 3}
    made = ck.template("qwen35", attention_interval=2, **own, **SIZES)
    assert made.hp.recurrent_layers == (True, False, True)
    assert made.shapes["blk.0.attn_qkv.weight"] == (2 * 3 * 8 + 6 * 10, 40)
    assert made.shapes["blk.0.ssm_conv1d.weight"] == (2 * 3 * 8 + 6 * 10, 3)
    assert made.shapes["blk.0.ssm_out.weight"] == (40, 6 * 10)


def test_wrong_sizes_of_recurrent_layers_are_refused() -> None:
    assert (
        refusal("qwen35", state_heads=6, state_keys=4) == "state_keys must divide the 6 state_heads, found 4"
    )
    assert refusal("qwen35", conv_taps=1) == "conv_taps must be 2 at least, found 1"
    assert refusal("qwen35", state_key_dim=129).startswith(
        "state_key_dim must be a whole number from 1 to 128"
    )
    with pytest.raises(
        UsageError, match="template llama: has no recurrent layers; leave state_heads, conv_taps out"
    ):
        ck.template("llama", state_heads=2, conv_taps=4, **SIZES)


def test_decays_begin_below_16_and_their_steps_biases_at_1() -> None:
    weights = ck.template("qwen35", **{**SIZES, "num_heads": 40, "num_kv_heads": 40}).initial_weights()
    decays = np.exp(weights["blk.0.ssm_a_log"])
    assert 0 < decays.min() < 4 < 12 < decays.max() < 16
    assert {*weights["blk.0.ssm_dt.bias"].tolist()} == {1}
    assert {*weights["blk.0.ssm_norm.weight"].tolist()} == {1}
    filters = ck.template("qwen35", **SIZES).initial_weights("kaiming_uniform")["blk.0.ssm_conv1d.weight"]
    assert 1.1 < np.abs(filters).max() <= (6 / 4) ** 0.5


def test_biases_begin_at_0_and_gains_at_1() -> None:
    weights = ck.template("qwen2", **SIZES).initial_weights()
    ends = {name: {*values.tolist()} for name, values in weights.items() if values.ndim == 1}
    assert {name.rpartition(".")[2]: values for name, values in ends.items()} == {"weight": {1}, "bias": {0}}


WITHOUT_WINDOWS = ("qwen35", "smollm3")


@every_family
def test_a_window_is_given_or_refused(family: str) -> None:
    if family in WITHOUT_WINDOWS:
        with pytest.raises(UsageError, match="has no sliding window"):
            ck.template(family, sliding_window=7, **SIZES)
        return
    hp = ck.template(family, sliding_window=7, window_pattern=2, **SIZES).hp
    assert [hp.layer_window(layer) for layer in range(3)] == [7, 0, 7]
    # Where windows are a choice they are everywhere, and turn as other layers do.
    hp = ck.template(family, sliding_window=7, **SIZES).hp
    assert [hp.layer_window(layer) for layer in range(3)] == [7, 7, 7]
    assert hp.window_apart == (family == "gemma3")


def test_a_pattern_of_no_window_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"^template llama: window_pattern is of a sliding_window, found none"
    ):
        ck.template("llama", window_pattern=2, **SIZES)


def test_a_template_may_have_a_window_that_its_architecture_has_not() -> None:
    assert ck.template("mistral", **SIZES).hp.layer_window(2) == 4096
    assert ck.template("llama", **SIZES).hp.layer_window(2) == 0
