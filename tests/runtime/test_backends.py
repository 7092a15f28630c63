"""Two backends, one meaning: C and LLVM give whole models and training runs the same bits, on any threads.

CK_BACKENDS=full (`make backends`) scores 512 tokens with each demo model; the suite's 64 go the same ways.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.backend.backends import BACKENDS
from ck.runtime.executable import Executable
from ck.runtime.trainable import Hyper, Trainable, compile_trainable
from ck.train import runs
from tests.models import MODELS, model_path
from tests.train.small_runs import assert_equal_runs, documents, options, template

N_TOKENS = 512 if os.environ.get("CK_BACKENDS") == "full" else 64
# Rows of a prefill step: more than one of them, the last one short.
CHUNK, N_DECODED = 48, 8
STEPS = 50


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest) -> dict[str, Executable]:
    """One demo model by each backend; they share nothing but the file."""
    path = model_path(request.param)
    return {name: ck.compile(path, context_len=1024, chunk=CHUNK, backend=name).exe for name in BACKENDS}


@pytest.mark.timeout(900)
def test_logits_have_the_same_bits(pair: dict[str, Executable], measured: Callable[[str], None]) -> None:
    c, llvm = pair["c"], pair["llvm"]
    ids = np.random.default_rng(512).integers(3, c.n_vocab, N_TOKENS + N_DECODED, dtype=np.int32)
    for threads in ((2, 1), (2, 2)):
        for exe, count in zip((c, llvm), threads, strict=True):
            exe.reset()
            exe.set_threads(count)
        # Rows of logits are large: compared step by step.
        for first in range(0, N_TOKENS, CHUNK):
            part = ids[first : min(first + CHUNK, N_TOKENS)]
            assert_bits(llvm.score(part), c.score(part), f"rows from {first} on")
        for token in ids[N_TOKENS:].tolist():
            assert_bits(llvm.decode(token), c.decode(token), f"decoded at {c.pos - 1}")
    measured(f"C = LLVM, bit for bit: {N_TOKENS} scored and {N_DECODED} decoded rows of {c.n_vocab} logits")


def assert_bits(got: np.ndarray, want: np.ndarray, where: str) -> None:
    assert np.isfinite(want).all(), where
    assert np.array_equal(got.view(np.uint32), want.view(np.uint32)), where


@pytest.mark.parametrize(
    ("family", "choices"),
    [
        ("llama", {}),
        ("gemma3", {"activation_budget": 0.0}),
        ("llama", {"optimizer": "sgd", "decay": "all", "dtype": "bf16"}),
    ],
    ids=["llama-adamw", "gemma3-recomputed", "llama-sgd-bf16"],
)
def test_training_has_the_same_bits(family: str, choices: dict[str, Any], training: Path) -> None:
    trained = [
        train(compile_trainable(template(family), 2, 32, threads=threads, backend=name, **choices))
        for name, threads in (("c", 2), ("llvm", 1), ("llvm", 2))
    ]
    (want, figures), *others = trained
    assert len(figures) == STEPS
    for got, other_figures in others:
        assert other_figures == figures
        for kind in ("parameters", "optimizer_state"):
            ours, theirs = getattr(got, kind), getattr(want, kind)
            assert ours.keys() == theirs.keys()
            assert {name for name in ours if ours[name].tobytes() != theirs[name].tobytes()} == set()


def train(trainable: Trainable) -> tuple[Trainable, list[tuple[float, float]]]:
    """The trainable after STEPS updates, and the loss and gradient norm of each."""
    figures: list[tuple[float, float]] = []
    for number in range(1, STEPS + 1):
        batch = documents([32, 19, 13], seed=number)
        nll = trainable.accumulate(batch, 1 / batch.n_scored)
        norm = trainable.grad_norm(Hyper())
        trainable.update(Hyper(), number)
        figures.append((float(nll.sum(dtype=np.float64)), norm))
    return trainable, figures


def test_a_run_goes_on_with_the_other_backend(training: Path) -> None:
    straight = ck.train(run="./straight", steps=40, backend="c", **options(schedule="constant")).path
    run = ck.train(run="./other", steps=20, backend="llvm", **options(schedule="constant")).path
    assert (run / "build" / "program.ll").is_file()
    runs.resume("./other", flags={"steps": 40, "backend": "c"})
    assert_equal_runs(run, straight, 40)
    record = json.loads((run / "run.json").read_text())
    assert record["backend"] == "c"
    assert record["changes"] == [
        {"after_step": 20, "run.steps": [20, 40], "run.backend": ["llvm", "c"], "backend": ["llvm", "c"]}
    ]
    assert [path.name for path in sorted((run / "build").iterdir())] == ["program.c"]
