"""Chains held against llama.cpp's samplers: the tokens that are left and how probable they are, on recorded
logits. `make samplers` records them anew.

llama.cpp computes in f32: a probability of ours may differ by what some hundred f32 operations lose.
"""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from ck.frontend.tokenizer import Tokenizer
from ck.runtime.samplers.mirostat import Mirostat
from ck.runtime.samplers.params import SamplingParams
from ck.runtime.sampling import Sampler

DATA = np.load(Path(__file__).parents[1] / "data" / "samplers.npz")
RECORDED: dict[str, Any] = json.loads(DATA["text"].tobytes())
ROWS = DATA["rows"]
CASES: list[dict[str, Any]] = RECORDED["cases"]
# 300 terms of a sum, each rounded to 2^-24.
TOLERANCE = 300 * 2.0**-24


class Pieces:
    """GPT-2's bytes of the tokens that the cases have."""

    eog_ids = frozenset[int]()

    def piece(self, token: int) -> bytes:
        return bytes.fromhex(RECORDED["pieces"][token])


def sampler_of(settings: dict[str, Any]) -> Sampler:
    pairs = tuple((token, float(bias)) for token, bias in settings.get("logit_bias", ()))
    params = SamplingParams(**{**settings, "logit_bias": pairs, "seed": 0})
    return Sampler(params, cast("Tokenizer", Pieces()))


def test_what_is_recorded() -> None:
    assert RECORDED["peer"].startswith("llama.cpp of llama-cpp-python 0.3.36")
    assert len(CASES) == 86


def name_of(case: dict[str, Any]) -> str:
    return f"{len(case['seen'])}-" + "-".join(f"{name}={value}" for name, value in case["settings"].items())


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_chain_is_llama_cpps(case: dict[str, Any]) -> None:
    sampler = sampler_of(case["settings"])
    sampler.forget()
    sampler.see(case["seen"])
    for row, result in zip(case["rows"], case["results"], strict=True):
        ids, probabilities = sampler.distribution(ROWS[row])
        # What f32 rounds to 0 is left all the same; ours is smaller than any f32 there.
        theirs = {id: p for id, p in zip(result["ids"], result["p"], strict=True) if p > 1e-37}
        ours = {id: p for id, p in zip(ids.tolist(), probabilities.tolist(), strict=True) if p > 1e-37}
        assert ours.keys() == theirs.keys()
        wanted = np.array([theirs[id] for id in ours])
        np.testing.assert_allclose(list(ours.values()), wanted, rtol=TOLERANCE, atol=1e-9)
        # mirostat goes on from what llama.cpp has drawn.
        sampler.see([result["drawn"]])
        for step in sampler.steps:
            step.drew(ours[result["drawn"]])


def test_mirostat_moves() -> None:
    # Or its cases of several rows were of no use.
    step = Mirostat(2, 5.0, 0.1)
    step.drew(0.5)
    assert step.mu == pytest.approx(10 - 0.1 * (1 - 5))
