"""A program means the same at every stage: the `ck` interpreter, the `rt` interpreter and the compiled C.

Two-layer cuts of both demo models in f32: a prompt of more than one chunk, then decode. The second chunk is
not full: rows past the live ones hold NaN, which shows when read. tests/graphs has random programs.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

import ck
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.rt.evaluate import evaluate_rt
from ck.ir.types import shape
from ck.passes.pipeline import STAGES
from tests.models import MODELS
from tests.passes.programs import CHUNK, CONTEXT, Program, model_program

N_VOCAB = 512
# Ids of a prompt of one chunk and a part, and of the steps after it.
PROMPT = np.random.default_rng(7).integers(3, N_VOCAB, CHUNK + 3, np.int32)
STEPS = (5, 17)
MAX_ABS = 1e-3
TENSORS = ("graph", "fused", "kernels")


class Interpreted:
    """A module under the interpreter of its stage, with the caches it fills."""

    def __init__(self, program: Program, stage: str) -> None:
        self.module: ModuleOp = program.module(stage)
        self.on_tensors = stage in TENSORS
        self.environment = Environment(program.weights)

    def __call__(self, entry: str, rows: np.ndarray, n: int, *pos: int) -> np.ndarray:
        """The result of `entry` on `rows`, of which `n` are live."""
        if self.on_tensors:
            return evaluate(self.module, entry, (rows, n, *pos), self.environment)[0]
        result = find_function(self.module, entry).body.block.args[-1]
        out = np.full(shape(result.type), np.nan, np.float32)
        evaluate_rt(self.module, entry, (rows, n, *pos, out), self.environment)
        return out


def logits(run: Interpreted) -> np.ndarray:
    """Logits after the prompt and after each step: [1 + steps, V]."""
    width = shape(find_function(run.module, "head").body.block.args[0].type)
    pos = 0
    for first in range(0, len(PROMPT), CHUNK):
        part = PROMPT[first : first + CHUNK]
        tokens = np.zeros(CHUNK, np.int32)
        tokens[: len(part)] = part
        hidden = run("prefill", tokens, len(part), pos)
        pos += len(part)
        last = hidden[len(part) - 1]
    rows = np.full(width, np.nan, np.float32)
    rows[0] = last
    found = [run("head", rows, 1)[0]]
    for token in STEPS:
        found.append(run("decode", np.array([token], np.int32), 1, pos)[0])
        pos += 1
    return np.stack(found)


@cache
def graph_logits(path: Path) -> np.ndarray:
    return logits(Interpreted(model_program(path, "f32"), "graph"))


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES[1:]])
@pytest.mark.parametrize("name", MODELS)
def test_every_stage_of_a_model_means_the_graph(
    name: str, stage: str, cut: Callable[..., Path], measured: Callable[[str], None]
) -> None:
    path = cut(name, 2, N_VOCAB)
    want = graph_logits(path)
    assert np.isfinite(want).all()
    worst = float(np.abs(logits(Interpreted(model_program(path, "f32"), stage)) - want).max())
    measured(f"{name}, two layers: {stage} against graph, max abs {worst:.1e}")
    assert worst <= MAX_ABS


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_compiled_c_means_the_graph(
    name: str, threads: int, cut: Callable[..., Path], measured: Callable[[str], None]
) -> None:
    path = cut(name, 2, N_VOCAB)
    model = ck.compile(path, context_len=CONTEXT, dtype="f32", kv="f32", chunk=CHUNK, threads=threads)
    found = [model.exe.prefill(PROMPT), *(model.exe.decode(token).copy() for token in STEPS)]
    worst = float(np.abs(np.stack(found) - graph_logits(path)).max())
    measured(f"{name}, two layers: C on {threads} threads against graph, max abs {worst:.1e}")
    assert worst <= MAX_ABS
