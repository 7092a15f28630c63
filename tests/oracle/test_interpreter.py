"""A frontend's graph means what transformers computes: each `ck` module, run by its ops' references."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize

from ck.frontend.gguf import GgufFile
from ck.frontend.graph import HEAD_ROWS, BuiltGraph, Plan, build_graph, weight_type
from ck.frontend.model import open_model
from ck.ir.evaluate import Environment, evaluate
from tests.models import MODELS, model_path
from tests.oracle.reference import N_TOKENS, Reference

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(900)]

MAX_ABS = 1e-3
CHUNK = 256


class Dequantized(Mapping[str, np.ndarray]):
    """The weights of a GGUF file and the constants of its graph as f32, by the gguf package."""

    def __init__(self, file: GgufFile, constants: Mapping[str, np.ndarray]) -> None:
        self.file, self.constants = file, constants
        self.known: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self.constants:
            return self.constants[name]
        if name not in self.known:
            tensor = self.file.tensors[name]
            rows = np.asarray(self.file.raw(name)).reshape(*tensor.shape[:-1], -1)
            kind = GGMLQuantizationType(tensor.storage.ggml_id)
            self.known[name] = rows.view(np.float32) if kind.name == "F32" else dequantize(rows, kind)
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self.file.tensors, *self.constants])

    def __len__(self) -> int:
        return len(self.file.tensors) + len(self.constants)


def graph(path: Path) -> tuple[BuiltGraph, Environment]:
    """The f32 module of the model at `path` and an environment with its weights and an f32 cache."""
    source = open_model(path)
    storage = {name: weight_type(t.shape, "f32") for name, t in source.file.tensors.items()}
    built = build_graph(source.hp, source.architecture, storage, Plan(CHUNK, 1024, "f32"))
    return built, Environment(Dequantized(source.file, built.constants))


def score(built: BuiltGraph, environment: Environment, ids: np.ndarray) -> Iterator[np.ndarray]:
    """The logits [V] after each of `ids`, fed in chunks."""
    for pos in range(0, len(ids), CHUNK):
        n = min(CHUNK, len(ids) - pos)
        tokens = np.zeros(CHUNK, np.int32)
        tokens[:n] = ids[pos : pos + n]
        (hidden,) = evaluate(built.module, "prefill", (tokens, n, pos), environment)
        for row in range(0, n, HEAD_ROWS):
            live = min(HEAD_ROWS, n - row)
            rows = np.full((HEAD_ROWS, hidden.shape[1]), np.nan, np.float32)
            rows[:live] = hidden[row : row + live]
            (logits,) = evaluate(built.module, "head", (rows, live), environment)
            yield from logits[:live]


@pytest.mark.parametrize("name", MODELS)
def test_graph_means_what_the_reference_computes(
    name: str, refer: Callable[[Path], Reference], measured: Callable[[str], None]
) -> None:
    path = model_path(name)
    want = refer(path)
    rows = score(*graph(path), want.ids)
    worst = [float(np.abs(got - row).max()) for got, row in zip(rows, want.logits, strict=True)]
    assert len(worst) == N_TOKENS
    measured(f"{name}: ck interpreter against transformers, max abs {max(worst):.2e}")
    assert max(worst) <= MAX_ABS, f"row {int(np.argmax(worst))}"
