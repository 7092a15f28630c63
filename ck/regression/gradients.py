"""Every gradient tensor of a template against PyTorch's f64 ones, by every backend, for few rows and many.

Limits are those of DESIGN, section 9: relative 1e-5, 1 - cosine 1e-6. With recurrent layers PyTorch's own f32
may be further than that from f64, for one of DRAWS documents of that length: there ck's may be 4 times as
far. One document says little of that noise, which is of a few roundings that were made large. Of one row, q
and k and what belongs to them have no gradient, since the softmax of one score is 1: what ck has for them is
a few roundings of what cancels, at most NOTHING of all gradients.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.frontend.template import Template
from ck.regression.rows import documents, packed
from ck.runtime.trainable import Rows, Trainable, compile_trainable
from ck.train.config import OptimConfig
from ck.train.parity.checks import COSINE
from ck.train.parity.figures import Check, Figure, cosines, norm, relatives, worst
from ck.train.parity.peer import Peer
from ck.train.parity.steps import EXCESS, RELATIVE, copies

Tensors = dict[str, NDArray[np.floating[Any]]]
NOTHING = 1e-6
# Below this share of all gradients, PyTorch's f64 has rounded a 0.
ZERO = 1e-12


def _values() -> dict[str, float]:
    return {}


# Documents from which PyTorch's own noise is taken, no more than are needed. One row's cancel: of 32 of them
# the farthest was 15 times as far as the farthest of 8.
DRAWS, DRAWS_OF_ONE = 8, 32
_SEED = 3


@dataclass
class _Found:
    """The worst so far, by tensor and length."""

    near: dict[str, float] = field(default_factory=_values)
    over: dict[str, float] = field(default_factory=_values)
    turned: dict[str, float] = field(default_factory=_values)
    none: dict[str, float] = field(default_factory=_values)
    without: set[str] = field(default_factory=set[str])
    differing: set[str] = field(default_factory=set[str])


class Gradients:
    """A template's programs, one a backend, and PyTorch's model, with the same weights."""

    def __init__(
        self, model: Template, weights: Mapping[str, NDArray[np.float32]], rows: int, backends: Sequence[str]
    ) -> None:
        """`rows` at most in a batch. Raises MachineError without PyTorch, UnsupportedError."""
        self.model = model
        self.peer = Peer(model, OptimConfig(), "f64")
        self.peer.load(weights, {}, 0)
        self.unsteady = Peer(model, OptimConfig()) if any(model.hp.recurrent_layers) else None
        if self.unsteady is not None:
            self.unsteady.load(weights, {}, 0)
        self.programs = [
            compile_trainable(model, 1, rows, weights=weights, threads=1, backend=each) for each in backends
        ]

    def compare(self, lengths: Sequence[int]) -> list[Check]:
        """One document of each length: which tensors there are, and their gradients."""
        found = _Found()
        for n in lengths:
            self._one(n, found)
        return [self._tensors(found), self._gradients(found, lengths)]

    def _one(self, n: int, found: _Found) -> None:
        rows = _document(n, self.model.hp.n_vocab, _SEED)
        want = _of_peer(self.peer, rows)
        ours, *others = [_of_program(program, rows) for program in self.programs]
        for other in others:
            found.differing |= {name for name in ours if not np.array_equal(ours[name], other[name])}
        whole = math.hypot(*map(norm, want.values()))
        none = {name for name, values in want.items() if norm(values) < ZERO * whole}
        if n > 1:
            found.without |= (
                none | (ours.keys() ^ want.keys()) | {each for each in ours if not norm(ours[each])}
            )
        there = {name: values for name, values in want.items() if name not in none}
        at = f"of {n} rows"
        found.none |= {f"{name} {at}": norm(ours[name]) / whole for name in none & ours.keys()}
        apart = relatives(ours, there)
        own = self._own(n, apart)
        for name, value in apart.items():
            if own[name] > RELATIVE:
                found.over[f"{name} {at}"] = value / own[name]
            else:
                found.near[f"{name} {at}"] = value
        found.turned |= {f"{name} {at}": value for name, value in cosines(ours, there).items()}

    def _own(self, n: int, apart: Mapping[str, float]) -> dict[str, float]:
        """How far PyTorch's f32 is from its f64, by tensor; `apart` is how far ck is."""
        own = dict.fromkeys(apart, 0.0)
        if self.unsteady is None:
            return own
        for seed in range(_SEED, _SEED + (DRAWS if n > 1 else DRAWS_OF_ONE)):
            rows = _document(n, self.model.hp.n_vocab, seed)
            exact = {name: values for name, values in _of_peer(self.peer, rows).items() if name in own}
            found = relatives(_of_peer(self.unsteady, rows), exact)
            own |= {name: max(own[name], value) for name, value in found.items()}
            if all(apart[name] <= _limit(own[name]) for name in apart):
                break
        return own

    def _tensors(self, found: _Found) -> Check:
        extra, absent = self.peer.unmatched
        theirs = set(self.peer.ours.values())
        unmatched = sorted({*extra, *absent, *(theirs ^ self.model.shapes.keys())})
        without = sorted(found.without)
        figures = (
            Figure("tensors", len(self.peer.named), reason="reported"),
            Figure("tensors on one side", len(unmatched), 0, ", ".join(unmatched) or None),
            Figure("tensors without a gradient", len(without), 0, ", ".join(without) or None),
        )
        return Check("tensors", figures)

    def _gradients(self, found: _Found, lengths: Sequence[int]) -> Check:
        differing = sorted(found.differing)
        alone = "one backend" if len(self.programs) == 1 else None
        figures = [
            worst("relative", found.near, RELATIVE),
            *([worst("over PyTorch's f32", found.over, EXCESS)] if found.over else []),
            worst("1 - cosine", found.turned, COSINE),
            Figure(
                "tensors that differ between backends",
                None if alone else len(differing),
                0,
                ", ".join(differing) or None,
                alone,
            ),
        ]
        if found.none:
            figures.append(worst("of all, where PyTorch has 0", found.none, NOTHING))
        return Check("gradients", tuple(figures), {"lengths": list(lengths)})


def _limit(own: float) -> float:
    return EXCESS * own if own > RELATIVE else RELATIVE


def _document(n: int, n_vocab: int, seed: int) -> Rows:
    """One document of `n` rows, its first target scored."""
    rows = documents([n], n_vocab, seed)
    rows.targets[0] = 5
    return rows


def _of_peer(peer: Peer, rows: Rows) -> Tensors:
    """PyTorch's gradients of the sum of losses."""
    peer.optimizer.zero_grad()
    peer.accumulate(packed(rows, 0, len(rows.tokens)), 1.0)
    return peer.gradients()


def _of_program(ours: Trainable, rows: Rows) -> Tensors:
    """The gradients of the sum of losses."""
    ours.zero_gradients()
    ours.accumulate(rows, 1.0)
    return dict(copies(ours.gradients))
