"""Run one training program every way there is: micro-batches, then the norm and the update of all weights.

PyTorch differentiates the graph by autograd and updates with its own optimizers; it sees neither the gradient
graph nor the states.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from xdsl.dialects.builtin import ModuleOp

from ck.backend.backends import BACKENDS
from ck.ir.evaluate import find_function
from ck.ir.ops.cross_entropy import CrossEntropyOp
from ck.ir.types import shape
from tests.graphs.check_inference import live_rows
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
    squared,
)
from tests.graphs.runs import Built, Compiled, Interpreted, stages
from tests.graphs.torch_meaning import Meaning
from tests.graphs.train import Training
from tests.graphs.values import JUNK, arrays, draw_rows, draw_weights, padded, rng_of
from tests.ops.case import Operand

# f64 against f64, through a gradient and an update.
SAME = 1e-20
# A factor of a product now and then becomes the other bf16, by 2^-8 of itself.
BF16, BF16_STEP = 1e-6, 2.0**-9
# What is left of the noise of f32 in f64, squared.
DOUBLE = 2.0**-56
# Scores beyond this: weights of a softmax are e^(s - lse), each of which f32 rounds by 2^-24 of itself, and a
# gradient that they cancel in has nothing to be held against.
STEEP = 64.0
MOMENTS = {"adamw": ("adam_m", "adam_v"), "sgd": ("momentum",)}


@dataclass
class _Watched(Meaning):
    """Remembers the largest number that a product gave."""

    largest: float = 0.0

    def product(self, x: Tensor, w: Tensor) -> Tensor:
        y = super().product(x, w)
        self.largest = max(self.largest, float(y.detach().abs().max()))
        return y


class Case:
    """A training program with its numbers."""

    def __init__(self, program: Training) -> None:
        self.program, self.graph = program, program.graph
        # The forward pass, with the types of its results.
        self.forward = find_function(program.module(), "eval")
        self.first = draw_weights(self.graph, program.seed)
        self.moments = MOMENTS[program.option("optimizer")]
        self.states = {name: self._state(*name.split(".", 1)) for name in self._state_names()}
        self.inputs = [self._inputs(number) for number in range(len(program.batches))]
        types = self.graph.weights
        self.steepest = self.largest = self.decayed = 0.0
        self.types = {**types, **{name: types[name.split(".", 1)[1]] for name in self.states}}

    def _state_names(self) -> list[str]:
        return [f"{kind}.{name}" for kind in ("grad", *self.moments) for name in self.program.learned]

    def _state(self, kind: str, name: str) -> np.ndarray:
        """As earlier steps leave it: gradients accumulated, moments that are not zero."""
        sizes = shape(self.graph.weights[name])
        drawn = 0.1 * rng_of(self.program.seed, kind, name).standard_normal(sizes)
        if self.program.update == 1 and kind != "grad":
            drawn *= 0
        elif kind == "adam_v":
            drawn = 0.1 + np.abs(drawn)
        return drawn.astype(np.float32)

    def _inputs(self, number: int) -> dict[str, Any]:
        """What a micro-batch takes; rows that are not live hold NaN, and ids that do not exist."""
        lengths, capacity = self.program.batches[number], self.program.rows
        n, rng = sum(lengths), rng_of(self.program.seed, "batch", number)
        ids = rng.integers(0, self.graph.n_vocab, (2, n)).astype(np.int32)
        ids[1, rng.random(n) < 0.3] = -1
        positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.float32)
        starts = np.repeat(np.cumsum((0, *lengths[:-1])), lengths).astype(np.int32)
        rows = draw_rows(rng, n, self.graph.width, self.program.style)
        known = {
            "x": padded(rows, capacity, np.nan),
            "tokens": padded(ids[0], capacity, -JUNK),
            "targets": padded(ids[1], capacity, JUNK),
            "positions": padded(positions[:, None], capacity, np.nan),
            "starts": padded(starts, capacity, JUNK),
            "n": n,
        }
        return {name: known[name] for name in self.graph.inputs}

    def slopes(self, number: int) -> dict[str, np.ndarray]:
        """The cotangents of a micro-batch's results."""
        outputs = self.forward.function_type.outputs
        lengths, capacity = self.program.batches[number], self.program.rows
        made: dict[str, np.ndarray] = {}
        for name, of in zip(self.graph.results, outputs.data, strict=True):
            rows, columns = shape(of)
            drawn = rng_of(self.program.seed, "slope", number, name).standard_normal((rows, columns))
            live = drawn[: sum(lengths) * (rows // capacity)].astype(np.float32)
            made[f"d_{name}"] = padded(live, rows, np.nan)
        return made

    def hyper(self, real: Any) -> np.ndarray:
        """The buffer that the update takes."""
        hyper, number = self.program.hyper, self.program.update
        is_adamw = self.program.option("optimizer") == "adamw"
        return np.array(hyper.for_adamw(number) if is_adamw else hyper.for_sgd(number), real)

    def run(self, run: Any, real: Any = np.float32) -> Outcome:
        """Results of every micro-batch, gradients before the update, the norm, all states after it."""
        found: dict[str, np.ndarray] = {}
        for number, inputs in enumerate(self.inputs):
            given = {**inputs, **self.slopes(number)}
            given = {
                name: value.astype(real) if getattr(value, "dtype", None) == np.float32 else value
                for name, value in given.items()
            }
            for entry in ("eval", "train_step"):
                taken = given if entry == "train_step" else {name: given[name] for name in inputs}
                for name, rows in zip(self.graph.results, run(entry, taken), strict=True):
                    live = inputs["n"] * (len(rows) // self.program.rows)
                    found[f"%{name} of @{entry} {number}"] = rows[:live].copy()
        for name in self.program.learned:
            found[f"grad.{name} before the update"] = run.weights[f"grad.{name}"].copy()
        hyper = self.hyper(real)
        (norm,) = run("grad_norm", {"hyper": hyper, "n": 1})
        found["norm"] = norm[:1].copy()
        run("update", {"hyper": hyper, "norm": norm, "n": 1})
        return found | {name: value.copy() for name, value in run.weights.items()}

    def interpreted(
        self, module: ModuleOp, real: Any = np.float32, step: float = 0.0, seed: int = 0
    ) -> Outcome:
        """By the interpreter of its stage; `step` moves the weights, and what ops make by its rounding."""
        weights = arrays(self.first, real)
        states = {name: value.astype(real) for name, value in self.states.items()}
        if step:
            weights, states = moved(weights, step, seed), moved(states, step, seed)
        observe = rounding(seed) if step else None
        return self.run(Interpreted(module, {**weights, **states}, {}, observe), real)

    def of_losses(self, name: str) -> float:
        """The noise of rows of losses: each is a difference of numbers as large as logits."""
        losses = {node.result for node in self.graph.nodes if node.kind is CrossEntropyOp}
        is_loss = name.startswith("%") and name[1:].split()[0] in losses
        return self.program.rows * (2.0**-24 * self.largest) ** 2 if is_loss else 0.0

    def of_decays(self, values: np.ndarray) -> float:
        """The noise of e^(a - b), a and b sums of log decays: their last bits count where they are large."""
        return (2.0**-24 * self.decayed) ** 2 * squared(values)

    def compiled(self, built: Built, threads: int) -> Outcome:
        """By a built program."""
        states = {name: Operand(value, value) for name, value in self.states.items()}
        run = Compiled(built, threads, self.types, {**self.first, **states}, {})
        unused = {name: value for name, value in arrays(self.first).items() if name not in run.weights}
        return {**self.run(run), **unused}

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

    def by_torch(self) -> Outcome:
        """By PyTorch in f64."""
        weights = {name: torch.from_numpy(value) for name, value in arrays(self.first, np.float64).items()}
        learned = {name: weights[name].requires_grad_() for name in self.program.learned}
        for name, weight in learned.items():
            weight.grad = torch.from_numpy(self.states[f"grad.{name}"].astype(np.float64))
        found: dict[str, np.ndarray] = {}
        for number in range(len(self.inputs)):
            found |= self._step_by_torch(number, weights)
        for name, weight in learned.items():
            assert weight.grad is not None
            found[f"grad.{name} before the update"] = weight.grad.numpy().copy()
        return found | self._updated(weights, learned)

    def _step_by_torch(self, number: int, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """The results of a micro-batch; its gradients are added to the weights'."""
        inputs, slopes = self.inputs[number], self.slopes(number)
        meaning = _Watched(self.forward, weights, {}, inputs["n"], self.program.option("dtype"))
        results = meaning({name: live_rows(value, inputs["n"]) for name, value in inputs.items()})
        self.steepest = max(self.steepest, meaning.steepest)
        self.largest = max(self.largest, meaning.largest)
        self.decayed = max(self.decayed, meaning.decayed)
        found: dict[str, np.ndarray] = {}
        total = torch.zeros((), dtype=torch.float64)
        for name, rows in zip(self.graph.results, results, strict=True):
            for entry in ("eval", "train_step"):
                found[f"%{name} of @{entry} {number}"] = rows.detach().numpy()
            total = total + (rows * live_rows(slopes[f"d_{name}"], len(rows))).sum()
        total.backward()
        return found

    def _updated(self, weights: Mapping[str, Tensor], learned: Mapping[str, Tensor]) -> Outcome:
        """The norm and all states after the update; what decay draws to 1 is updated as its distance to 1."""
        with torch.no_grad():
            for name in self.program.ones:
                learned[name].sub_(1)
        optimizer = self._optimizer(learned)
        norm = torch.nn.utils.clip_grad_norm_(learned.values(), self.program.hyper.max_grad_norm or np.inf)
        optimizer.step()
        with torch.no_grad():
            for name in self.program.ones:
                learned[name].add_(1)
        found = {"norm": norm.reshape(1).numpy()}
        found |= {name: weight.detach().numpy() for name, weight in weights.items()}
        kept = {"adam_m": "exp_avg", "adam_v": "exp_avg_sq", "momentum": "momentum_buffer"}
        for name, weight in learned.items():
            found[f"grad.{name}"] = np.zeros(weight.shape)
            for moment in self.moments:
                found[f"{moment}.{name}"] = optimizer.state[weight][kept[moment]].numpy()
        return found

    def _optimizer(self, learned: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        hyper, number = self.program.hyper, self.program.update
        decayed = self.program.option("decay") == "all"
        groups = [
            {"params": [weight], "weight_decay": hyper.weight_decay * (decayed or weight.dim() == 2)}
            for weight in learned.values()
        ]
        if self.program.option("optimizer") == "adamw":
            made = torch.optim.AdamW(groups, lr=hyper.lr, betas=(hyper.beta1, hyper.beta2), eps=hyper.eps)
            names = ("exp_avg", "exp_avg_sq")
        else:
            made = torch.optim.SGD(groups, lr=hyper.lr, momentum=hyper.momentum)
            names = ("momentum_buffer",)
        for name, weight in learned.items():
            states = [self.states[f"{kind}.{name}"].astype(np.float64) for kind in self.moments]
            made.state[weight] = dict(zip(names, map(torch.from_numpy, states), strict=True))
            made.state[weight]["step"] = torch.tensor(number - 1.0)
        return made


def check_training(program: Training, folder: Path, backends: tuple[str, ...] = BACKENDS) -> dict[str, float]:
    """Raises Disagreement; else the largest part of each bound that was used."""
    case, module = Case(program), program.module()
    found = stages(module.clone(), ("differentiated", "kernels", "scheduled"))
    first = case.assert_backends_agree(found["scheduled"], folder, backends)
    # The products' precision is not in the graph before that.
    is_bf16 = program.option("dtype") == "bf16"
    judge = found["kernels"] if is_bf16 else found["differentiated"]
    exact, want = case.interpreted(judge, np.float64), case.by_torch()
    if not is_tame(exact) or case.steepest > STEEP:
        return {}
    single = case.interpreted(judge)
    step = BF16_STEP if is_bf16 else SINGLE_STEP
    nudged = [case.interpreted(judge, np.float64, step, seed) for seed in NUDGES]
    noise = {
        name: part + case.of_losses(name) + case.of_decays(exact[name])
        for name, part in noise_of(exact, single, *nudged).items()
    }
    bound = Bound(BF16 if is_bf16 else SINGLE, SLACK, noise)
    meant = bound if is_bf16 else Bound(SAME, SLACK * DOUBLE, bound.noise)
    kernels, scheduled = (case.interpreted(found[stage]) for stage in ("kernels", "scheduled"))
    return {
        "torch": assert_near("the f64 interpreter", exact, "PyTorch", want, meant),
        "kernels": assert_near("kernels, interpreted", kernels, "the gradient graph", single, bound),
        "scheduled": assert_near("scheduled, interpreted", scheduled, "kernels", kernels, bound),
        "compiled": assert_near(*first, "scheduled, interpreted", scheduled, bound),
    }
