"""Adapters against the package PEFT: gradients, fifty steps, files both ways."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.frontend.adapted_graph import products
from ck.frontend.adapters import Adapters
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.template import Template
from ck.runtime.trainable import Hyper, compile_trainable
from ck.train.config import OptimConfig
from ck.train.export.peft import export_peft
from ck.train.parity.figures import cosines, relatives
from tests.train.bases import weights_of, write_base
from tests.train.parity_runs import packed
from tests.train.peft_peer import adapted_peer, gradients, theirs
from tests.train.small_runs import MODEL, documents, template

pytestmark = pytest.mark.oracle
# DESIGN, section 9; fifty steps at the canary's rate.
RELATIVE, COSINE, LOSS, LOGITS = 1e-5, 1e-6, 1e-4, 1e-4


def adapted(family: str) -> Template:
    """A small model of the family, every product of its layers with an adapter."""
    made = template(family)
    return replace(made, adapters=Adapters(4, 6.0, products(made)))


def learned(model: Template, seed: int = 1) -> dict[str, Any]:
    """Adapters as after some training: B is not zero."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in model.trained.items()}


@pytest.mark.parametrize("backend", ["c", "llvm"])
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_gradient_is_peft_s(family: str, backend: str, measured: Callable[[str], None]) -> None:
    model = adapted(family)
    base, tensors = weights_of(replace(model, adapters=None)), learned(model)
    rows = documents([23, 41])
    ours = compile_trainable(model, 1, 64, weights=tensors, frozen=base, backend=backend)
    nll = ours.accumulate(rows, 1.0)
    peer = adapted_peer(model, base, tensors, OptimConfig(), "f64")
    total = peer.accumulate(packed(rows, 0, 64), 1.0)
    assert float(nll.sum(dtype=np.float64)) == pytest.approx(total, rel=1e-5)
    got, want = theirs(model, ours.gradients), gradients(peer)
    assert got.keys() == want.keys()
    near, turned = relatives(got, want), cosines(got, want)
    assert max(near.values()) <= RELATIVE
    assert max(turned.values()) <= COSINE
    measured(f"adapters of {family} by {backend}: gradients {max(near.values()):.1e} from PEFT's f64")


def test_fifty_steps_are_peft_s(measured: Callable[[str], None]) -> None:
    model = adapted("llama")
    base, first = weights_of(replace(model, adapters=None)), model.initial_weights(seed=4)
    ours = compile_trainable(model, 1, 64, weights=first, frozen=base)
    peer, apart = adapted_peer(model, base, first, OptimConfig()), list[float]()
    for step in range(50):
        rows = documents([30, 34], seed=step % 4)
        n_scored = rows.n_scored
        losses = ours.accumulate(rows, 1 / n_scored).sum(dtype=np.float64) / n_scored
        hyper = Hyper(lr=3e-4)
        ours.grad_norm(hyper)
        ours.update(hyper, step + 1)
        apart.append(abs(float(losses) - peer.accumulate(packed(rows, 0, 64), 1 / n_scored) / n_scored))
        peer.update(3e-4)
    assert max(apart) <= LOSS
    measured(f"adapters, 50 steps: losses at most {max(apart):.1e} from PEFT's")


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_files_both_ways(family: str, tmp_path: Path, measured: Callable[[str], None]) -> None:
    """PEFT loads what ck wrote and ck what PEFT wrote; logits agree."""
    peft: Any = import_module("peft")
    model = adapted(family)
    assert model.adapters is not None
    base, tensors = weights_of(replace(model, adapters=None)), learned(model, 2)
    ids = np.random.default_rng(3).integers(0, MODEL["vocab_size"], 48)
    file = write_base(tmp_path / "base.gguf", family)
    export_peft(tmp_path / "ours", model.hp, model.adapters, tensors, "base")
    peer = adapted_peer(model, base, learned(model, 5), OptimConfig())
    plain = peer.model.unload()
    loaded = peft.PeftModel.from_pretrained(plain, tmp_path / "ours").eval()
    loaded.save_pretrained(tmp_path / "theirs")
    with peer.torch.no_grad():
        wanted = loaded(input_ids=peer.torch.tensor(ids[None]), use_cache=False).logits[0].numpy()
    for folder in ("ours", "theirs"):
        made = ck.compile(file, adapter=tmp_path / folder, kv="f32", context_len=64)
        far = float(np.abs(made(ids) - wanted).max())
        assert far <= LOGITS
        measured(f"an adapter of {family}, {folder}: logits {far:.1e} from PEFT's")
