"""Fine-tuning SmolLM2-135M on 200 documents, all weights and adapters, beside PyTorch and PEFT.

Both sides begin with the same weights, take the same batches and the same schedule, and score the same dev
data. The limits are those of the table below; figures are written as JSON.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
DOCUMENTS, CHARACTERS = 200, 250
RUN: dict[str, Any] = {
    "base": "smollm2-135m", "epochs": 1, "seq_len": 64, "batch": 8, "lr": 1e-4, "schedule": "linear",
    "eval_every": 1000, "save_every": 1000,
}  # fmt: skip
LORA = "r=8,alpha=16"
# Dev loss beside PyTorch's, as a share.
DEV_LOSS = 0.01
# Of merged weights: logits beside the adapter's, both in PyTorch's f64, so that the merging alone counts;
# losses beside those of the adapter in ck; logits of ck's program beside the adapter's in f32, where the
# noise of either is 1e-4.
MERGED = {"logits": 1e-4, "losses, ck": 1e-4, "logits, ck": 1e-3}


def write_documents(path: Path) -> Path:
    """The first lines of 200 of the project's own files, a row each."""
    files = sorted([*ROOT.glob("ck/**/*.py"), *ROOT.glob("tests/**/*.py")])
    texts = [text[:CHARACTERS] for file in files if len(text := file.read_text()) > CHARACTERS]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:DOCUMENTS]))
    return path


def in_pytorch(run: Path, say: Callable[[str], None]) -> dict[str, float]:
    """The same run in PyTorch: its losses of the last step and of the dev data, and its time."""
    from ck.train.batches import BatchStream, dev_batches
    from ck.train.config import load_config
    from ck.train.parity.peer import Peer
    from ck.train.parity.steps import window_targets
    from ck.train.rundir import RunDirectory
    from ck.train.schedules import learning_rate
    from ck.train.setup import reopen
    from tests.train.peft_peer import adapted_peer

    config = load_config(run / "config.toml")
    prepared = reopen(RunDirectory(run), config, needs_base=True)
    first, template = prepared.first_weights(config), prepared.template
    assert prepared.base is not None
    if template.adapters is None:
        peer = Peer(template, config.optim)
        peer.load(first, {}, 0)
    else:
        peer = adapted_peer(template, prepared.base.weights, first, config.optim)
    stream = BatchStream(prepared.data, config.run.seq_len, config.run.batch, config.run.seed)

    def dev() -> float:
        batches = list(dev_batches(prepared.data, config.run.seq_len, config.run.batch))
        return sum(peer.evaluate(batch) for batch in batches) / sum(batch.n_targets for batch in batches)

    before, began, loss = dev(), time.monotonic(), 0.0
    for number in range(1, prepared.total_steps + 1):
        batches = stream.next(1)
        loss = peer.accumulate(batches[0], 1 / window_targets(batches)) / window_targets(batches)
        peer.update(learning_rate(number, prepared.total_steps, config.optim))
        say(f"PyTorch: step {number}/{prepared.total_steps}, loss {loss:.4f}")
    seconds = time.monotonic() - began
    return {"before": before, "loss": loss, "dev_loss": dev(), "seconds": seconds}


def merged_apart(run: Path) -> dict[str, float]:
    """How far logits of merged weights are from those of the adapter in PEFT, losses from those in ck."""
    import ck
    from ck.runtime.trainable import compile_trainable, sequences
    from ck.train.config import OptimConfig, load_config
    from ck.train.export.gguf_file import export_gguf
    from ck.train.export.source import source_of_run
    from ck.train.parity.peer import Peer
    from ck.train.rundir import RunDirectory
    from ck.train.setup import reopen
    from tests.train.peft_peer import adapted_peer

    source = source_of_run(run, None, lambda _: None)
    prepared = reopen(RunDirectory(run), load_config(run / "config.toml"), needs_base=True)
    assert prepared.base is not None
    assert source.tensors is not None
    assert source.vocabulary is not None
    export_gguf(run / "merged.gguf", source.hp, source.weights, source.vocabulary, "f32", force=True)
    ids = np.random.default_rng(0).integers(5, source.hp.n_vocab, 65).astype(np.int32)
    merged = ck.compile(run / "merged.gguf", kv="f32", context_len=128)(ids[:-1])
    top = merged.max(-1, keepdims=True)
    chosen = np.take_along_axis(merged, ids[1:, None], 1)
    nll = (np.log(np.exp((merged - top).astype(np.float64)).sum(-1, keepdims=True)) + top - chosen)[:, 0]
    own = compile_trainable(prepared.template, 1, 64, weights=source.tensors, frozen=prepared.frozen)
    losses = own.evaluate(sequences(ids[None, :-1], ids[None, 1:]))
    (run / "merged.gguf").unlink()
    template, optim = prepared.template, OptimConfig()
    of_f32, of_f64 = (
        logits_of(adapted_peer(template, prepared.base.weights, source.tensors, optim, arithmetic), ids[:-1])
        for arithmetic in ("f32", "f64")
    )
    plain = Peer(replace(template, adapters=None), optim, "f64")
    plain.load(source.weights, {}, 0)
    return {
        "logits": float(np.abs(logits_of(plain, ids[:-1]) - of_f64).max()),
        "losses, ck": float(np.abs(nll - losses).max()),
        "logits, ck": float(np.abs(merged - of_f32).max()),
    }


def logits_of(peer: Any, ids: np.ndarray) -> np.ndarray:
    """What PyTorch's model makes of one sequence: [T, V]; in f64 where it says f32 itself, as norms do."""
    from ck.train.parity.pytorch import computing_in

    with computing_in(peer.arithmetic), peer.torch.no_grad():
        return peer.model(input_ids=peer.torch.tensor(ids[None].astype(np.int64))).logits[0].numpy()


def measure(kind: str, folder: Path, data: Path, steps: int | None) -> dict[str, Any]:
    """One run by both sides."""
    import ck

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    run = folder / kind
    given = RUN | ({"lora": LORA} if kind == "lora" else {})
    if steps is not None:
        given = {name: value for name, value in given.items() if name != "epochs"} | {"steps": steps}
    began = time.monotonic()
    ours = ck.train(run, data=[data], sets=("data.dev_fraction=0.1",), **given)
    seconds = time.monotonic() - began
    say(f"{kind}: ck dev loss {ours.dev_loss:.4f} in {seconds:.0f} s")
    peer = in_pytorch(run, say)
    assert ours.dev_loss is not None
    found = {
        "ck": {"loss": ours.loss, "dev_loss": ours.dev_loss, "seconds": seconds},
        "PyTorch": peer,
        "dev loss apart": abs(ours.dev_loss / peer["dev_loss"] - 1),
    }
    return found | ({"merged": merged_apart(run)} if kind == "lora" else {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="lora,full", help="lora, full or both")
    parser.add_argument("--steps", type=int, help="updates, in place of one pass over the documents")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks" / "finetune.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        data = write_documents(Path(name) / "documents.jsonl")
        found = {kind: measure(kind, Path(name), data, args.steps) for kind in args.kinds.split(",")}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    wrong = [kind for kind, of in found.items() if of["dev loss apart"] > DEV_LOSS]
    wrong += [
        f"{kind}: {name}"
        for kind, of in found.items()
        for name, apart in of.get("merged", {}).items()
        if apart > MERGED[name]
    ]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
