"""Run one inference program every way there is, and hold the results against each other."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from xdsl.dialects.builtin import ModuleOp

from ck.backend.backends import BACKENDS
from ck.ir.evaluate import Kept, find_function
from ck.ir.types import KvType, WeightType
from tests.graphs.inference import Inference
from tests.graphs.judge import (
    NUDGES,
    SINGLE,
    SINGLE_STEP,
    SLACK,
    Bound,
    Outcome,
    assert_near,
    assert_same_bits,
    is_tame,
    moved,
    noise_of,
    rounding,
)
from tests.graphs.runs import Built, Compiled, Interpreted, stages
from tests.graphs.torch_meaning import History, Meaning
from tests.graphs.values import (
    JUNK,
    arrays,
    copied,
    draw_history,
    draw_rows,
    draw_weights,
    in_slots,
    named,
    padded,
    rng_of,
)

# f64 against f64: sums in other orders.
SAME = 1e-22
# A number of a quantised row or of an f16 cache now and then rounds the other way, by 2^-15 of its block's
# largest or 2^-11 of itself.
ROUNDED, ROUNDED_STEP = 1e-7, 2.0**-11
# And of a row of 8 bits by 2^-8 of its block's largest.
COARSE, COARSE_STEP = 1e-4, 2.0**-8
# Neighbours among f16 are as far apart as this part of the larger, at most.
HALF_STEP = 2.0**-10


class Case:
    """An inference program with its numbers."""

    def __init__(self, program: Inference) -> None:
        self.program, self.graph = program, program.graph
        self.weights = draw_weights(self.graph, program.seed)
        self.types = dict(self.graph.leaves)
        self.histories = {
            name: draw_history(of, program.first, rng_of(program.seed, name))
            for name, of in self.graph.caches.items()
        }
        self.caches = {name: in_slots(of, self.histories[name]) for name, of in self.graph.caches.items()}
        self.inputs = [self._inputs(number) for number in range(len(program.calls))]

    def _inputs(self, number: int) -> dict[str, Any]:
        """What a call takes; rows that are not live hold NaN, and ids that do not exist."""
        entry, n = self.program.calls[number]
        capacity = self.program.rows if entry == "prefill" else 1
        rng = rng_of(self.program.seed, "call", number)
        rows = draw_rows(rng, n, self.graph.width, self.program.style)
        tokens = rng.integers(0, self.graph.n_vocab, n).astype(np.int32)
        known = {
            "x": padded(rows, capacity, np.nan),
            "tokens": padded(tokens, capacity, -JUNK),
            "n": n,
            "pos": self.program.first + sum(n for _, n in self.program.calls[:number]),
        }
        return {name: known[name] for name in self.graph.inputs}

    @property
    def rounding(self) -> tuple[float, float]:
        """The least bound, and how far numbers move to show their noise: by what rounds them on the way."""
        if any(isinstance(of, WeightType) and of.row.quantized for of in self.types.values()):
            return (COARSE, COARSE_STEP) if self.program.activations == "q8" else (ROUNDED, ROUNDED_STEP)
        return (ROUNDED, ROUNDED_STEP) if self.keeps_halves else (SINGLE, SINGLE_STEP)

    @property
    def keeps_halves(self) -> bool:
        """Whether a cache is of f16."""
        caches = self.graph.caches.values()
        return any(isinstance(of, KvType) and of.dtype_name == "f16" for of in caches)

    def of_halves(self, name: str, values: np.ndarray) -> float:
        """The noise of an f16 cache's rows: one that lies between two numbers of f16 becomes either."""
        kind, _, cache = name.partition(" of ")
        of = self.graph.caches.get(cache)
        if kind not in ("keys", "values") or not isinstance(of, KvType) or of.dtype_name != "f16":
            return 0.0
        return (HALF_STEP * float(np.nanmax(np.abs(values), initial=0.0))) ** 2

    def run(self, run: Any, real: Any = np.float32) -> Outcome:
        """The live rows of every result, and the caches."""
        found: dict[str, np.ndarray] = {}
        for number, ((entry, n), given) in enumerate(zip(self.program.calls, self.inputs, strict=True)):
            capacity = self.program.rows if entry == "prefill" else 1
            given = {**given, "x": given["x"].astype(real)} if "x" in given else given
            for name, rows in zip(self.graph.results, run(entry, given), strict=True):
                found[f"%{name} of call {number}"] = rows[: n * (len(rows) // capacity)].copy()
        for name in self.graph.caches:
            found |= named(name, copied(run.caches[name]))
        return found

    def interpreted(
        self, module: ModuleOp, real: Any = np.float32, step: float = 0.0, seed: int = 0
    ) -> Outcome:
        """By the interpreter of its stage; `step` moves the weights, and what ops make by its rounding."""
        weights = arrays(self.weights, real)
        if step:
            weights = moved(weights, step, seed)
        observe = rounding(seed) if step else None
        return self.run(Interpreted(module, weights, self.caches, observe), real)

    def compiled(self, built: Built, threads: int) -> Outcome:
        """By a built program, which leaves the weights as they are."""
        run = Compiled(built, threads, self.types, self.weights, self.caches)
        before = {f"@{name}": value.copy() for name, value in run.weights.items()}
        found = self.run(run)
        assert_same_bits("after", {f"@{name}": v for name, v in run.weights.items()}, "before", before)
        return found

    def assert_backends_agree(
        self, module: ModuleOp, folder: Path, backends: tuple[str, ...]
    ) -> tuple[str, Outcome]:
        """Bits on any number of threads, and whose they are."""
        built = {name: Built(module, name, folder) for name in backends}
        first, *others = [
            (f"{name} on {threads}", self.compiled(built[name], threads))
            for name in built
            for threads in (1, 2)
        ]
        for who, got in others:
            assert_same_bits(who, got, *first)
        return first

    def by_torch(self, module: ModuleOp) -> Outcome:
        """By PyTorch in f64."""
        weights = {name: torch.from_numpy(value) for name, value in arrays(self.weights, np.float64).items()}
        histories = {name: as_torch(kept) for name, kept in self.histories.items()}
        found: dict[str, np.ndarray] = {}
        for number, ((entry, n), given) in enumerate(zip(self.program.calls, self.inputs, strict=True)):
            live = {name: live_rows(value, n) for name, value in given.items()}
            results = Meaning(find_function(module, entry), weights, histories, n)(live)
            for name, rows in zip(self.graph.results, results, strict=True):
                found[f"%{name} of call {number}"] = rows.numpy()
        for name, of in self.graph.caches.items():
            found |= named(name, in_slots(of, as_numpy(histories[name])))
        return found


def as_torch(kept: Kept) -> Any:
    """A history for PyTorch, in f64."""
    if isinstance(kept, np.ndarray):
        return torch.from_numpy(kept.astype(np.float64))
    return History(*(torch.from_numpy(part.astype(np.float64)) for part in kept))


def as_numpy(history: Any) -> Kept:
    """PyTorch's history as a cache has it."""
    return (history.keys.numpy(), history.values.numpy()) if isinstance(history, History) else history.numpy()


def live_rows(value: Any, n: int) -> Any:
    """The live rows of an input for PyTorch, reals in f64."""
    if isinstance(value, int):
        return value
    rows = torch.from_numpy(value[:n])
    return rows.double() if rows.is_floating_point() else rows.long()


def check_inference(
    program: Inference, folder: Path, backends: tuple[str, ...] = BACKENDS
) -> dict[str, float]:
    """Raises Disagreement; else the largest part of each bound that was used."""
    case, module = Case(program), program.module()
    found = stages(module.clone(), ("kernels", "scheduled"))
    first = case.assert_backends_agree(found["scheduled"], folder, backends)
    exact = case.interpreted(module, np.float64)
    if not is_tame(exact):
        return {}
    single = case.interpreted(module)
    least, step = case.rounding
    nudged = [case.interpreted(module, np.float64, step, seed) for seed in NUDGES]
    noise = noise_of(exact, single, *nudged)
    noise = {name: part + case.of_halves(name, exact[name]) for name, part in noise.items()}
    bound = Bound(least, SLACK, noise)
    # A key at a tie of f16 may round either way in f64 too.
    meant = bound if case.keeps_halves else Bound(SAME, 0, {})
    kernels, scheduled = (case.interpreted(found[stage]) for stage in ("kernels", "scheduled"))
    return {
        "torch": assert_near("the f64 interpreter", exact, "PyTorch", case.by_torch(module), meant),
        "kernels": assert_near("kernels, interpreted", kernels, "the graph", single, bound),
        "scheduled": assert_near("scheduled, interpreted", scheduled, "kernels", kernels, bound),
        "compiled": assert_near(*first, "scheduled, interpreted", scheduled, bound),
    }
