"""Every family on random weights, in sizes that are small and sizes that are odd, against transformers.

The weights go through a GGUF file: ck's own names, conventions and header on the way out, its reader on the
way in, and its f32 program with an f32 cache on 600 tokens: in chunks, one by one, and greedily.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.architectures.outward.llama3 import Llama3
from ck.frontend.hyperparameters import HyperParameters
from ck.regression.inference import CHUNK, MAX_ABS, N_PROMPT, greedy
from ck.regression.models import transformers_model, vocabulary
from ck.runtime.model import Model
from ck.train.export.gguf_file import export_gguf
from tests.frontend.random_models import random_weights, small

pytestmark = pytest.mark.oracle

N_TOKENS, N_GREEDY = 600, 64
N_ODD_VOCAB = 1003


def odd(arch: str, **changes: Any) -> HyperParameters:
    """Three key/value heads of 80, a width that 32 divides and 64 does not, several periods of layers."""
    hp = small(
        arch, n_layers=3, d_model=96, n_heads=6, n_kv_heads=3, head_dim=80, rope_dims=80, d_ffn=160,
        n_vocab=N_ODD_VOCAB, context_length=640, attention_scale=1 / math.sqrt(80), tied=False,
    )  # fmt: skip
    if hp.sliding_window:
        hp = replace(hp, n_layers=7, window_pattern=3, sliding_window=37)
    if arch == "smollm3":
        hp = replace(hp, n_layers=9)
    if hp.recurrent_layers:
        hp = replace(
            hp, n_layers=6, rope_dims=20, recurrent_layers=(True, True, False) * 2, n_state_heads=6,
            n_state_keys=3, state_key_dim=20, state_value_dim=28, conv_taps=3,
        )  # fmt: skip
    return replace(hp, **changes)


YARN = {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_context": 128}
CASES = {
    **{f"{arch}-small": small(arch, context_length=640) for arch in ARCHITECTURES},
    **{f"{arch}-odd": odd(arch) for arch in ARCHITECTURES},
    "llama-linear": odd("llama", rope_factor=2.5, tied=True),
    "llama-llama3": odd("llama", rope_divisors=Llama3(8.0, 1.0, 4.0, 128).divisors(1e4, 80)),
    "llama-yarn": odd("llama", **YARN),
    "qwen2-yarn": odd("qwen2", **YARN, rope_base=1e6, rope_base_local=1e6, tied=True),
    "qwen3-yarn": odd("qwen3", **YARN, rope_attention_factor=0.75),
    "gemma3-linear": odd("gemma3", rope_factor=8.0),
    "mistral-small": small("llama", context_length=640).with_window(5),
    "mistral-odd": odd("llama").with_window(37),
    "qwen2-window": odd("qwen2", n_layers=5, **YARN).with_window(37, first=3),
    "qwen3-window": odd("qwen3", n_layers=5).with_window(37, pattern=2),
    "smollm3-yarn": odd("smollm3", **YARN),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Model, Any]:
    """A case's name, ck's program of it, transformers' model."""
    hp = CASES[request.param]
    path = tmp_path / "model.gguf"
    export_gguf(path, hp, random_weights(hp), vocabulary(hp.n_vocab))
    ours = ck.compile(path, dtype="f32", kv="f32", context_len=640, chunk=CHUNK)
    return request.param, ours, transformers_model(hp, random_weights(hp))


def test_logits_and_greedy_ids(case: tuple[str, Model, Any], measured: Callable[[str], None]) -> None:
    import torch

    name, ours, theirs = case
    n_vocab = CASES[name].n_vocab
    ids = np.random.default_rng(0).integers(0, n_vocab, N_TOKENS).astype(np.int32)
    with torch.inference_mode():
        want = theirs(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()
    in_chunks = np.asarray(ours(ids))
    ours.exe.reset()
    one_by_one = np.stack([ours.exe.decode(int(token)).copy() for token in ids])
    worst = [float(np.abs(got - want).max()) for got in (in_chunks, one_by_one)]
    runs = [greedy(ours, theirs, ids[start : start + N_PROMPT], N_GREEDY) for start in (0, 100)]
    assert [run.differs for run in runs] == [None, None]
    certain = max(run.compared for run in runs)
    measured(f"{name}: max abs {max(worst):.1e} of {np.abs(want).max():.1f}, {certain} greedy ids")
    assert max(worst) <= MAX_ABS
    # A window that nothing looks past, or an even distribution, would show nothing.
    assert np.ptp(want) > 1
    assert certain >= N_GREEDY / 4
