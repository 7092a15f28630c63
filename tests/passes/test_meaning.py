"""A program means the same at every stage: the `ck` interpreter, the `rt` interpreter and the compiled C.

Two-layer cuts of both demo models in f32, and random graphs with quantised weights too: a prompt of more than
one chunk, then decode. The second chunk is not full: rows past the live ones hold NaN, which shows when read.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

import ck
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.rt.evaluate import evaluate_rt
from ck.ir.types import shape
from ck.passes.pipeline import STAGES
from tests.models import MODELS
from tests.passes.compiled import Compiled
from tests.passes.programs import CHUNK, CONTEXT, Program, model_program, staged
from tests.passes.random_graphs import ROWS, D, RandomGraph, random_graph, values

N_VOCAB = 512
# Ids of a prompt of one chunk and a part, and of the steps after it.
PROMPT = np.random.default_rng(7).integers(3, N_VOCAB, CHUNK + 3, np.int32)
STEPS = (5, 17)
MAX_ABS = 1e-3
TENSORS = ("graph", "fused", "kernels")
SEEDS = range(2)
# Of random graphs: f32 sums in different orders, and through them a number of a quantised row now and
# then that rounds the other way, by 2^-14 of its block's largest. At most 3e-10 on ten seeds.
NMSE = 1e-8


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


# Random graphs.


@cache
def graph_of(seed: int) -> RandomGraph:
    return random_graph(seed)


@cache
def program_of(seed: int) -> Program:
    graph = random_graph(seed)
    return staged(graph.module, values(graph))


def results(run: Callable[..., Any]) -> list[np.ndarray]:
    """The live rows of a prefill that is not full, of a second one, and of a step."""
    rng = np.random.default_rng(3)
    found, pos = [], 0
    for entry, rows, n in (("prefill", ROWS, ROWS), ("prefill", ROWS, ROWS - 1), ("decode", 1, 1)):
        x = np.full((rows, D), np.nan, np.float32)
        x[:n] = rng.standard_normal((n, D), np.float32)
        found.append(run(entry, x, n, pos)[:n].copy())
        pos += n
    return found


def nmse(got: list[np.ndarray], want: list[np.ndarray]) -> float:
    pairs = list(zip(got, want, strict=True))
    return max(float(((a - b) ** 2).sum() / (b.astype(np.float64) ** 2).sum()) for a, b in pairs)


@cache
def meaning(seed: int, stage: str) -> list[np.ndarray]:
    """The results of a stage, interpreted. From `kernels` on quantised products take quantised rows."""
    return results(Interpreted(program_of(seed), stage))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stages", [("graph", "fused"), ("kernels", "buffers"), ("kernels", "scheduled")])
def test_passes_keep_the_meaning_of_random_graphs(stages: tuple[str, str], seed: int) -> None:
    want, got = (meaning(seed, stage) for stage in stages)
    assert all(np.isfinite(rows).all() for rows in want)
    assert nmse(got, want) <= NMSE


def test_a_wrong_plan_is_seen() -> None:
    """With all buffers in one place the numbers are others."""
    program = program_of(0)
    wrong = re.sub(r"rt.view %arena\[\d+ ", "rt.view %arena[0 ", program.texts["scheduled"])
    got = results(Interpreted(Program({"scheduled": wrong}, program.weights), "scheduled"))
    assert not nmse(got, meaning(0, "kernels")) <= NMSE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_random_graphs_compile(seed: int, threads: int, tmp_path: Path) -> None:
    program = Compiled(program_of(seed).module("scheduled"), graph_of(seed).weights, threads, tmp_path)
    try:
        assert nmse(results(program), meaning(seed, "kernels")) <= NMSE
    finally:
        program.close()
