"""Low-rank adapters: products of a frozen weight that learn the difference as a product of two thin matrices.

    y[t] = W x[t] + (alpha / r) B (A x[t])         A [r, K], B [N, r] beside W [N, K]

The base W is not trained. A begins uniform in +-1/sqrt(K) and B at zero, so a fresh adapter changes nothing.
What it learns is as good as one weight W + (alpha / r) B A ("merged").
Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; first values as in PEFT, whose files hold the same
matrices (ck/train/export/peft.py).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ck.errors import UsageError
from ck.frontend.architectures.outward import find_outward
from ck.frontend.architectures.outward.common import part
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.initializers import uniform

Shapes = Mapping[str, tuple[int, ...]]
RANK_LIMIT = 1024
ALL = "all"
A, B = "lora_a", "lora_b"


@dataclass(frozen=True)
class Adapters:
    """rank r, alpha, and the weights that have an adapter, by their GGUF names."""

    rank: int
    alpha: float
    weights: tuple[str, ...]

    @property
    def scale(self) -> float:
        """alpha / r."""
        return self.alpha / self.rank

    def shapes(self, base: Shapes) -> dict[str, tuple[int, ...]]:
        """The trained tensors, `<weight>.lora_a` and `<weight>.lora_b`, in the order of the weights."""
        found: dict[str, tuple[int, ...]] = {}
        for name in self.weights:
            rows, columns = base[name]
            a, b = names_of(name)
            found |= {a: (self.rank, columns), b: (rows, self.rank)}
        return found

    def initial(self, base: Shapes, seed: int) -> dict[str, NDArray[np.float32]]:
        """First values of the trained tensors; `seed` decides A."""
        return {
            name: uniform(name, shape, 1 / math.sqrt(shape[1]), seed)
            if name.endswith(A)
            else np.zeros(shape, np.float32)
            for name, shape in self.shapes(base).items()
        }

    def delta(self, tensors: Mapping[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
        """What the adapter of weight `name` adds to it, [N, K]."""
        a, b = (tensors[side] for side in names_of(name))
        return self.product(a, b)

    def product(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        """(alpha / r) B A for any rows of B, in f64 and rounded once: a row's bits are its own."""
        scaled = self.scale * b.astype(np.float64)
        total = np.zeros((len(b), a.shape[1]))
        # A product of the library's may sum in an order that depends on the number of rows.
        for k in range(self.rank):
            total += scaled[:, k : k + 1] * a[k].astype(np.float64)
        return total.astype(np.float32)


def names_of(weight: str) -> tuple[str, str]:
    """The names of A and B of the adapter that `weight` has."""
    return f"{weight}.{A}", f"{weight}.{B}"


def choose(hp: HyperParameters, known: Sequence[str], targets: Iterable[str]) -> tuple[str, ...]:
    """Those of the weights `known` that `targets` mean.

    A target is `all`, or what a weight is in its layer: q or q_proj, as in transformers, or attn_q, as in
    GGUF files. Raises UsageError for one that the model does not have.
    """
    family = find_outward(hp.arch)
    assert family is not None
    theirs = family.huggingface_names(hp)
    names = {name: _spellings(part(name), part(theirs[name])) for name in known}
    wanted = list(targets)
    every = dict.fromkeys(min(spellings, key=len) for spellings in names.values())
    for target in wanted:
        if target != ALL and not any(target in spellings for spellings in names.values()):
            raise UsageError(f"--lora: targets must be {ALL} or some of {', '.join(every)}, found {target}")
    return tuple(name for name, spellings in names.items() if ALL in wanted or spellings & {*wanted})


def _spellings(ours: str, theirs: str) -> set[str]:
    return {ours, theirs, theirs.removesuffix("_proj")}
