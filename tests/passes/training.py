"""Training programs of small templates at every stage, and a step on them by the interpreters and in C.

A step is two micro-batches of packed documents, both with rows that are not live, then the norm and the
update. States begin with numbers that are not zero, so what is overwritten instead of added shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, SymbolRefAttr

from ck.errors import UsageError
from ck.frontend.graph import build_training_graph
from ck.frontend.template import Template, make_template
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.op import attr
from ck.ir.rt.evaluate import evaluate_rt
from ck.ir.types import shape
from ck.runtime.trainable import Hyper, Rows, Trainable, compile_trainable
from tests.passes.programs import Program, staged

# No size of a weight is the number of rows.
ROWS, VOCAB = 11, 37
MOMENTS = ("adam_m.", "adam_v.")
TENSORS = ("graph", "differentiated", "fused", "kernels")
# What a loss counts: an eighth of a scored row.
WEIGHT = 0.125
HYPER = Hyper(lr=1e-2, max_grad_norm=0.5)
JUNK = 1 << 30

Arrays = dict[str, np.ndarray]


@cache
def template(family: str, tied: bool = False) -> Template:
    """Two layers of odd sizes, two query heads a key head; a window shorter than documents in the first."""
    sizes: dict[str, Any] = {
        "layers": 2, "embed_dim": 18, "hidden_dim": 29, "num_heads": 4, "num_kv_heads": 2, "head_dim": 6,
        "vocab_size": VOCAB, "context_len": 64, "tied": tied,
    }  # fmt: skip
    try:
        return make_template(family, sliding_window=4, window_pattern=2, **sizes)
    except UsageError:
        return make_template(family, **sizes)


def module_of(of: Template, **options: Any) -> Any:
    """The graph that trains `of`, with what its passes are to choose; and its constants."""
    built = build_training_graph(of.hp, of.architecture, of.shapes, ROWS)
    ones = [SymbolRefAttr(name) for name in of.architecture.stored_as_one_plus(of.hp)]
    choices = {name: attr(value) for name, value in options.items()}
    built.module.attributes["ck.training"] = DictionaryAttr({**choices, "toward_one": ArrayAttr(ones)})
    return built


@cache
def training_program(family: str, tied: bool = False, budget: float = 1.0, dtype: str = "f32") -> Program:
    """The training program of a template at every stage, with all that it calls a weight."""
    of = template(family, tied)
    built = module_of(of, budget=budget, dtype=dtype)
    return staged(built.module, {**built.constants, **first_weights(of), **first_states(of)})


def first_weights(of: Template) -> Arrays:
    """Matrices whose products keep the size of a row, gains around 1."""
    rng = np.random.default_rng(11)
    made: Arrays = {}
    for name, sizes in of.shapes.items():
        drawn = rng.standard_normal(sizes)
        made[name] = (1 + 0.2 * drawn if len(sizes) == 1 else drawn / np.sqrt(sizes[1])).astype(np.float32)
    return made


def first_states(of: Template) -> Arrays:
    """Gradients that have been accumulated, and moments as earlier steps leave them."""
    rng = np.random.default_rng(12)
    made: Arrays = {}
    for name, sizes in of.shapes.items():
        made[f"grad.{name}"] = (0.1 * rng.standard_normal(sizes)).astype(np.float32)
        made[f"adam_m.{name}"] = (0.1 * rng.standard_normal(sizes)).astype(np.float32)
        made[f"adam_v.{name}"] = (0.1 + rng.random(sizes)).astype(np.float32)
    return made


def micro_batch(seed: int, *lengths: int) -> Rows:
    """Documents laid end to end; the last row of each is not scored."""
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    ends = np.cumsum(lengths) - 1
    targets = rng.integers(0, VOCAB, n).astype(np.int32)
    targets[ends] = -1
    return Rows(
        rng.integers(0, VOCAB, n).astype(np.int32),
        targets,
        np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
        np.repeat(np.cumsum((0, *lengths[:-1])), lengths).astype(np.int32),
    )


BATCHES = (micro_batch(1, 6, 1, 2), micro_batch(2, 10))


def padded(values: np.ndarray, fill: Any, dtype: Any = np.int32) -> np.ndarray:
    """`values` in a buffer of ROWS."""
    made = np.full(ROWS, fill, dtype)
    made[: len(values)] = values
    return made


def slopes(batch: Rows) -> np.ndarray:
    """The cotangent of each row's loss."""
    return np.where(batch.targets >= 0, WEIGHT, 0)


def step_inputs(batch: Rows, real: Any = np.float32) -> dict[str, Any]:
    """What @train_step takes. Rows that are not live hold NaN and ids that do not exist.

    But for tokens, which the interpreter of tensors looks up before it forgets the rows.
    """
    return {
        "tokens": padded(batch.tokens, 0),
        "targets": padded(batch.targets, JUNK),
        "positions": padded(batch.positions, np.nan, real)[:, None],
        "starts": padded(batch.starts, JUNK),
        "n": len(batch.tokens),
        "d_nll": padded(slopes(batch), np.nan, real)[:, None],
    }


@dataclass
class Interpreted:
    """A stage under its interpreter, with states of its own."""

    program: Program
    stage: str

    def __post_init__(self) -> None:
        self.module = self.program.module(self.stage)
        self.weights: Arrays = {name: value.copy() for name, value in self.program.weights.items()}

    def __call__(self, entry: str, inputs: Mapping[str, Any]) -> np.ndarray | None:
        """The result of `entry`, if it has one."""
        arguments = find_function(self.module, entry).body.block.args
        names = [str(argument.name_hint) for argument in arguments]
        environment = Environment(self.weights)
        if self.stage in TENSORS:
            found = evaluate(self.module, entry, [inputs[name] for name in names], environment)
            return found[0] if found else None
        given = {**inputs}
        if "tokens" in given:
            given["tokens"] = np.where(np.arange(ROWS) < given["n"], given["tokens"], JUNK).astype(np.int32)
        outs = [name for name in names if name not in given]
        for name in outs:
            given[name] = np.full(shape(arguments[names.index(name)].type), np.nan, np.float32)
        evaluate_rt(self.module, entry, [given[name] for name in names], environment)
        return given[outs[0]] if outs else None


def step(run: Interpreted) -> Arrays:
    """All that a step gives: losses, the norm, and every state after it."""
    found: Arrays = {}
    for number, batch in enumerate(BATCHES):
        nll = run("train_step", step_inputs(batch))
        assert nll is not None
        found[f"nll {number}"] = nll[: len(batch.tokens), 0]
    found |= {f"accumulated {name}": v.copy() for name, v in run.weights.items() if name[:5] == "grad."}
    hyper = np.array(HYPER.for_adamw(3), np.float32)
    norm = run("grad_norm", {"hyper": hyper, "n": 1})
    assert norm is not None
    run("update", {"hyper": hyper, "norm": norm, "n": 1})
    return found | {"norm": norm} | run.weights


def compiled(family: str, tied: bool = False, threads: int = 1, **options: Any) -> Trainable:
    """The C of a template, its tensors as the interpreters' begin."""
    of = template(family, tied)
    made = compile_trainable(of, batch=1, seq=ROWS, weights=first_weights(of), threads=threads, **options)
    states = first_states(of)
    for name, gradient in made.gradients.items():
        gradient[...] = states[f"grad.{name}"]
    for name, moment in made.optimizer_state.items():
        moment[...] = states[name]
    return made


def compiled_step(of: Trainable) -> Arrays:
    """The same of a compiled program, whose rows that are not live hold junk."""
    found: Arrays = {}
    for number, batch in enumerate(BATCHES):
        for name, buffer in of._arguments.items():
            if name not in ("hyper", "norm"):
                buffer[...] = np.nan if buffer.dtype == np.float32 else JUNK
        found[f"nll {number}"] = of.accumulate(batch, WEIGHT)
    found |= {f"accumulated grad.{name}": value.copy() for name, value in of.gradients.items()}
    of.grad_norm(HYPER)
    of.update(HYPER, 3)
    found |= {"norm": of._arguments["norm"].copy()}
    states = {name: value.copy() for name, value in of._tensors.items()}
    return found | states
