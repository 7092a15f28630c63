"""Small models of every family with random weights: their numbers, and tensors in GGUF conventions."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ck.frontend.architectures import find_architecture
from ck.frontend.hyperparameters import HyperParameters

N_VOCAB = 317


def f32(value: float) -> float:
    """`value` as a GGUF header keeps it."""
    return float(np.float32(value))


def small(arch: str, **changes: Any) -> HyperParameters:
    """Numbers of a small model: heads share keys, heads times K is not D, the window is short."""
    hp = HyperParameters(
        arch=arch, n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, head_dim=32, d_ffn=96, n_vocab=N_VOCAB,
        context_length=128, rms_eps=f32(1e-5), rope_base=1e4, rope_dims=32, rope_factor=1.0,
        rope_base_local=1e4, sliding_window=0, window_pattern=1, attention_scale=1 / math.sqrt(32), tied=True,
    )  # fmt: skip
    if arch == "gemma3":
        hp = replace(hp, n_layers=3, rope_base=1e6, sliding_window=5, window_pattern=2)
    if arch == "smollm3":
        # The fourth layer is the one that is not rotated.
        hp = replace(hp, n_layers=5)
    if arch == "qwen35":
        hp = replace(
            hp, rope_dims=8, recurrent_layers=(True, False), n_state_heads=4, n_state_keys=2,
            state_key_dim=16, state_value_dim=24, conv_taps=4, log_decay=True,
        )  # fmt: skip
    return replace(hp, **changes)


def random_weights(hp: HyperParameters, seed: int = 0) -> dict[str, Any]:
    """Every tensor of the model: matrices that keep rows about as long as they were, gains around 1.

    Decays forget a part of what they meet, some most of it.
    """
    rng = np.random.default_rng(seed)
    family: Any = find_architecture(hp.arch)
    weights = {}
    for name, shape in family.tensor_shapes(hp).items():
        values = rng.standard_normal(shape, np.float32)
        weights[name] = 1 + values / 10 if len(shape) == 1 else values / np.float32(math.sqrt(shape[1]))
        if name.endswith(("ssm_a", "ssm_a_log")):
            weights[name] = -np.exp(values) if name.endswith("ssm_a") else values
    return weights
