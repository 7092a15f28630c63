"""Small training runs: their text and sizes, `ck` as a process, and what makes two runs equal."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

import ck
from ck.frontend.template import Template
from ck.regression import rows as regression_rows
from ck.regression.rows import corpus as corpus
from ck.runtime.trainable import Rows
from ck.train.metrics import TIMES, read_metrics
from tests.train.children import environment

MODEL: dict[str, Any] = {
    "layers": 2, "embed_dim": 32, "hidden_dim": 64, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16,
    "vocab_size": 300, "context_len": 64,
}  # fmt: skip
RUN: dict[str, Any] = {"seq_len": 32, "batch": 2, "save_every": 20, "eval_every": 10}
FILES = ("weights.safetensors", "optimizer.safetensors", "state.json")


def options(**changes: Any) -> dict[str, Any]:
    """What `ck.train` is given, beside the run's name; the text is c.txt of the working directory."""
    return {"template": "llama", "data": ["c.txt"], **MODEL, **RUN, **changes}


def words(**changes: Any) -> list[str]:
    """The same as the words of a command line."""
    found: list[str] = []
    for name, value in options(**changes).items():
        values = value if isinstance(value, list) else [value]
        found += [word for each in values for word in (f"--{name.replace('_', '-')}", str(each))]
    return found


def spawn(*arguments: str) -> "subprocess.Popen[str]":
    """`ck` as a process, in the working directory."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "ck.cli.main", *arguments]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment())


def template(family: str = "llama", **changes: Any) -> Template:
    """A small model; of a family with recurrent layers, with one of attention as well."""
    made = ck.template(family, **(MODEL | changes))
    if made.hp.recurrent_layers and "attention_interval" not in changes:
        made = ck.template(family, **(MODEL | {"attention_interval": made.hp.n_layers} | changes))
    return made


def documents(lengths: list[int], seed: int = 0) -> Rows:
    """Rows of documents of these lengths, for MODEL's vocabulary."""
    return regression_rows.documents(lengths, MODEL["vocab_size"], seed)


def rows(batch: Rows, first: int, end: int) -> Rows:
    """The rows from `first` to before `end`, whole documents, as a batch of their own."""
    part = slice(first, end)
    starts = batch.starts[part] - np.int32(first)
    return Rows(batch.tokens[part], batch.targets[part], batch.positions[part], starts)


def contents(run: Path, step: int) -> dict[str, bytes]:
    """Every file of a checkpoint that a resumed run must make again, bit for bit."""
    return {name: (run / "checkpoints" / f"step-{step}" / name).read_bytes() for name in FILES}


def tensors(run: Path, step: int) -> dict[str, NDArray[np.float32]]:
    """Weights and optimizer state of a checkpoint."""
    folder = run / "checkpoints" / f"step-{step}"
    return load_file(folder / FILES[0]) | load_file(folder / FILES[1])


def measures(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics without the times."""
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(run)]


def assert_equal_runs(a: Path, b: Path, step: int) -> None:
    """Both runs are at `step` with equal bits and equal metrics."""
    assert contents(a, step) == contents(b, step)
    assert measures(a) == measures(b)


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """||a - b|| / ||b||."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(a64 - b64) / np.linalg.norm(b64))
