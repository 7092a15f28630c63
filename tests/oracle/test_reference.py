"""The oracle reads the two files as they are meant: the gguf package's weights, the family's defaults."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, dequantize

from tests.models import MODELS, PATTERN_LAYERS
from tests.oracle.reference import load_model

pytestmark = pytest.mark.oracle

# GGUF's name of a tensor of a layer -> the module's.
LINEAR = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
NORMS = {
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_weights_equal_the_gguf_packages(name: str, cut: Callable[..., Path]) -> None:
    path = cut(name, PATTERN_LAYERS[name], 4096)
    model = load_model(path)
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    for tensor in GGUFReader(path).tensors:
        part = tensor.name.split(".")
        want = dequantize(tensor.data, tensor.tensor_type)
        if part[0] == "blk" and part[2] in LINEAR:
            got = state[f"model.layers.{part[1]}.{LINEAR[part[2]]}.weight"]
            if model.config.model_type == "llama" and part[2] in heads:
                got = interleave_rows(got, heads[part[2]])
            assert np.array_equal(got, want), tensor.name
        elif part[0] == "blk" and model.config.model_type == "gemma3_text":
            got = state[f"model.layers.{part[1]}.{NORMS[part[2]]}.weight"]
            # The file holds 1 + w in f32, the module computes 1 + w: one rounding apart.
            np.testing.assert_allclose(1 + got, want, rtol=2**-23, err_msg=tensor.name)
        elif tensor.name == "token_embd.weight":
            assert np.array_equal(state["model.embed_tokens.weight"], want)
            assert np.array_equal(state["lm_head.weight"], want)


def interleave_rows(rows: np.ndarray, heads: int) -> np.ndarray:
    """A q or k matrix with halves of a head rotated -> with neighbours rotated, as llama's GGUFs store it."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def test_gemma_gets_what_its_file_leaves_out(cut: Callable[..., Path]) -> None:
    config = load_model(cut("gemma3-270m", 6, 4096)).config
    assert config.layer_types == ["sliding_attention"] * 5 + ["full_attention"]
    assert config.rope_parameters["sliding_attention"] == {"rope_theta": 10000.0, "rope_type": "default"}
    assert config.rope_parameters["full_attention"] == {"rope_theta": 1000000.0, "rope_type": "default"}
    assert config.sliding_window == 512
    assert config.query_pre_attn_scalar == config.head_dim == 256
    assert (config.attn_logit_softcapping, config.final_logit_softcapping) == (None, None)
    assert config.hidden_activation == "gelu_pytorch_tanh"
    assert config.tie_word_embeddings
