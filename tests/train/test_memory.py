"""Memory: the arena is what was planned and all of it is used; recomputation lowers the peak, never a bit."""

import ctypes
import json
import mmap
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ck.runtime import program as module
from ck.runtime.trainable import Hyper, Trainable, compile_trainable
from tests.train import children
from tests.train.small_runs import documents, template

PAGE = mmap.PAGESIZE
FAMILIES = ("llama", "gemma3")


@pytest.fixture(autouse=True)
def cache(training_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(training_cache))


def guarded(n_bytes: int) -> NDArray[np.uint8]:
    """Bytes that end where a page begins which may not be touched: one byte further is SIGSEGV."""
    pages = -(-n_bytes // PAGE)
    memory = mmap.mmap(-1, (pages + 1) * PAGE)
    whole = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(whole.ctypes.data + pages * PAGE), PAGE, 0) == 0
    # Buffers are aligned to 64 bytes, so the gap before the guard is less than that.
    first = pages * PAGE - -(-n_bytes // 64) * 64
    return whole[first : first + n_bytes]


def test_the_guard_ends_who_writes_past_it() -> None:
    code = """
import ctypes, sys
from tests.train.test_memory import guarded

arena = guarded(100)
arena[...] = 1
ctypes.memset(arena.ctypes.data + int(sys.argv[1]), 1, 1)
print("alive")
"""
    assert children.run(code, 127) == "alive\n"
    child = children.start(code, 128)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGSEGV


def run_all(trainable: Trainable) -> list[bytes]:
    """Every entry on every row of the capacity, and all that came of it."""
    batch = documents([trainable.rows // 2, trainable.rows // 2], seed=4)
    nll = [trainable.evaluate(batch), trainable.accumulate(batch, 1 / batch.n_scored)]
    gradients = [gradient.copy() for gradient in trainable.gradients.values()]
    norm = np.array([trainable.grad_norm(Hyper())], np.float32)
    trainable.update(Hyper(), 1)
    moved = [*trainable.parameters.values(), *trainable.optimizer_state.values()]
    return [array.tobytes() for array in (*nll, *gradients, norm, *moved)]


def compiled(family: str, budget: float, dtype: str = "f32", threads: int = 2) -> Trainable:
    return compile_trainable(
        template(family),
        batch=2,
        seq=32,
        init="xavier_normal",
        activation_budget=budget,
        dtype=dtype,
        threads=threads,
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("budget", "dtype"), [(1.0, "f32"), (0.5, "f32"), (0.0, "f32"), (1.0, "bf16")])
def test_the_arena_is_as_large_as_it_must_be(
    family: str, budget: float, dtype: str, monkeypatch: pytest.MonkeyPatch, measured: Callable[[str], None]
) -> None:
    monkeypatch.setattr(module, "anonymous", guarded)
    arenas: list[NDArray[np.uint8]] = []
    results: list[list[bytes]] = []
    for canary in (0xA5, 0x5A):
        trainable = compiled(family, budget, dtype)
        arena = trainable.exe._arena
        assert len(arena) == trainable.program.manifest.arena_bytes
        arena[...] = canary
        results.append(run_all(trainable))
        arenas.append(arena)
    # What was in the arena before decides nothing: no buffer is read before it is written.
    assert results[0] == results[1]
    untouched = (arenas[0] == 0xA5) & (arenas[1] == 0x5A)
    last = np.flatnonzero(~untouched)[-1]
    assert len(untouched) - last <= 64, "the end of the arena is used"
    share = untouched.mean()
    measured(f"arena of {family} at budget {budget} {dtype}: {len(untouched)} bytes, {share:.2%} untouched")
    # The gaps that alignment leaves.
    assert share <= 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputation_changes_no_bit(family: str) -> None:
    found = {budget: run_all(compiled(family, budget)) for budget in (1.0, 0.5, 0.0)}
    assert found[0.5] == found[1.0]
    assert found[0.0] == found[1.0]
    texts = {budget: compiled(family, budget).ir("differentiated") for budget in found}
    counts = [texts[budget].count("ck.recomputed") for budget in (1.0, 0.5, 0.0)]
    assert counts[0] == 0 < counts[1] < counts[2]


PEAK = """
import json, sys
from ck.runtime.trainable import Hyper, compile_trainable
import ck, numpy as np

def resident(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) << 10

sizes = dict(layers=8, embed_dim=64, hidden_dim=256, num_heads=4, num_kv_heads=2, head_dim=16, vocab_size=300)
found = compile_trainable(
    ck.template("llama", context_len=256, **sizes), batch=8, seq=256, threads=1, init="xavier_normal",
    activation_budget=float(sys.argv[1]),
)
tokens = np.random.default_rng(0).integers(0, 300, (8, 256))
before = resident("VmRSS")
result = found.step(tokens, tokens, Hyper())
print(json.dumps({
    "peak": resident("VmHWM") - before, "arena": found.program.manifest.arena_bytes,
    "loss": result.loss, "norm": result.grad_norm,
}))
"""
# A compiler's own peak would hide that of the step.
COMPILE = PEAK[: PEAK.index("tokens = ")]


def test_half_the_activations_lower_the_peak(measured: Callable[[str], None]) -> None:
    found: dict[float, dict[str, Any]] = {}
    for budget in (1.0, 0.5):
        children.run(COMPILE, budget)
        found[budget] = json.loads(children.run(PEAK, budget))
    whole, half = found[1.0], found[0.5]
    for each in (whole, half):
        # Gradients and moments become resident beside the arena, and little else.
        states = each["peak"] - each["arena"]
        assert 0 <= states < 12 << 20, f"{each['peak']} resident, {each['arena']} planned"
    saved = whole["arena"] - half["arena"]
    measured(
        f"peak of a step: {whole['peak'] / 2**20:.1f} MiB (arena {whole['arena'] / 2**20:.1f}), "
        f"at half the activations {half['peak'] / 2**20:.1f} (arena {half['arena'] / 2**20:.1f})"
    )
    assert half["arena"] < 0.7 * whole["arena"]
    assert whole["peak"] - half["peak"] == pytest.approx(saved, rel=0.1)
    assert (half["loss"], half["norm"]) == (whole["loss"], whole["norm"])
