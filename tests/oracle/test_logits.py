"""The logits tier: ck's f32 program against transformers, over a page of prose, for both demo models."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import ck
from ck.runtime.model import Model
from tests.models import MODELS, model_path
from tests.oracle.reference import PROSE, Reference, top2_gaps

# The first test of a model computes its reference, on a busy machine minutes.
pytestmark = [pytest.mark.oracle, pytest.mark.timeout(900)]

# DESIGN section 9: torch's own f32 noise is 1e-4.
MAX_ABS = 1e-3
# Two logits nearer than twice the bound may change places.
EXCUSED_GAP = 2 * MAX_ABS
# A greedy step whose two best logits are this near may go either way, and every later step with it.
GREEDY_GAP = 1e-3
MEAN_KLD = 1e-5


@dataclass(frozen=True)
class Case:
    """A demo model, what the reference says of it, ck's f32 program with f32 cache, its logits [T, V]."""

    name: str
    path: Path
    want: Reference
    model: Model
    logits: np.ndarray


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest, refer: Callable[[Path], Reference]) -> Case:
    """One model at a time: Gemma's f32 weights and logits take 2 GB."""
    path = model_path(request.param)
    want = refer(path)
    model = ck.compile(path, dtype="f32", kv="f32")
    return Case(request.param, path, want, model, model(want.ids))


def test_tokens_equal_the_references(case: Case) -> None:
    ids = case.model.tokenizer.encode(PROSE.read_text())
    assert ids[: len(case.want.ids)] == case.want.ids.tolist()


def test_f32_logits_equal_the_references(case: Case, measured: Callable[[str], None]) -> None:
    got, want = case.logits, case.want.logits
    assert got.dtype == np.float32
    assert got.shape == want.shape
    worst = [float(np.abs(a - b).max()) for a, b in zip(got, want, strict=True)]
    gaps = top2_gaps(want)
    differs, excused = got.argmax(-1) != want.argmax(-1), gaps <= EXCUSED_GAP
    found = f"max abs {max(worst):.2e}, top-1 differs {differs.sum()} times, {excused.sum()} rows excused"
    measured(f"{case.name}: {found}")
    assert max(worst) <= MAX_ABS, f"row {int(np.argmax(worst))} of {len(worst)}"
    assert not np.any(differs & ~excused)


def test_f16_cache_is_as_good_as_f32(case: Case, measured: Callable[[str], None]) -> None:
    half = ck.compile(case.path, dtype="f32", kv="f16")(case.want.ids)
    divergence = np.array([kld(a, b) for a, b in zip(case.logits, half, strict=True)])
    found = f"mean KLD {divergence.mean():.2e}, worst {divergence.max():.2e}"
    measured(f"{case.name}: f16 against f32 cache, {found}")
    assert divergence.mean() <= MEAN_KLD


def test_greedy_ids_equal_the_references(case: Case) -> None:
    exe = case.model.exe
    for run in case.want.greedy:
        exe.reset()
        logits, got = exe.prefill(np.array(run.prompt, np.int32)), []
        for _ in run.ids:
            got.append(int(np.argmax(logits)))
            logits = exe.decode(got[-1])
        near = [step for step, gap in enumerate(run.gaps) if gap < GREEDY_GAP]
        certain = near[0] if near else len(run.ids)
        assert got[:certain] == run.ids[:certain]
        assert certain > 0


def kld(p_logits: np.ndarray, q_logits: np.ndarray) -> float:
    """Kullback-Leibler divergence of softmax(q) from softmax(p), in nats, in f64."""
    p, q = log_softmax(p_logits), log_softmax(q_logits)
    return float(np.sum(np.exp(p) * (p - q)))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())
