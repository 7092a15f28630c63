"""Names and conventions on the way out: transformers' own parameters, and back again bit for bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ck.errors import UnsupportedError, UsageError
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.architectures.outward import Kind, Outward, find_outward
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
    assert min(values.min() for values in weights.values() if values.ndim == 1) > 0.5
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
        ("llama", {"sliding_window": 8}, "sliding_window must be 0 for transformers, found 8"),
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
