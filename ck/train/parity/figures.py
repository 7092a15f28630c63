"""Distances between tensors, and figures that are judged by limits.

    relative    ||a - b|| / max(||b||, 1e-6 * ||all b||)
    cosine      1 - a . b / (||a|| ||b||), of tensors above that floor
                of step parity: b is PyTorch's f64 where its own f32 is further from that than the limit
    excess      ||ours - exact|| / max(||theirs - exact||, 2^-23 * max(||exact||, 1e-6 * ||all exact||)): how
                much further than PyTorch's f32 ck is from f64; 2^-23 is what the last roundings alone cost;
                ||theirs - exact|| is the greatest of several draws where one was too few

A tensor of another shape, and a distance that is no number, are infinitely far.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.floating[Any]]]
# Below this share of the global norm a tensor's own norm is no measure.
FLOOR = 1e-6
ULP = 2.0**-23


@dataclass(frozen=True)
class Figure:
    """One number. With a limit it passes or fails, without one it is reported; `reason` says why so."""

    name: str
    value: float | None
    limit: float | None = None
    where: str | None = None
    reason: str | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the value is within the limit; None when there is nothing to judge."""
        return None if self.value is None or self.limit is None else self.value <= self.limit


def _no_detail() -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Check:
    """Figures that belong together, and what lies behind them."""

    name: str
    figures: tuple[Figure, ...]
    detail: Mapping[str, Any] = field(default_factory=_no_detail)

    @property
    def passed(self) -> bool | None:
        """False when a figure failed, None when none was judged."""
        return verdict(figure.passed for figure in self.figures)


def verdict(each: Iterable[bool | None]) -> bool | None:
    """False when one is, else True when one is, else None."""
    found = set(each)
    return False if False in found else True if True in found else None


def not_compared(name: str, figures: Iterable[str], reason: str) -> Check:
    """A check that was not made."""
    return Check(name, tuple(Figure(figure, None, reason=reason) for figure in figures))


def norm(tensor: NDArray[Any]) -> float:
    """The Euclidean norm over all elements, in f64."""
    return float(np.linalg.norm(np.asarray(tensor, np.float64)))


def distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """||a - b||; infinite for other shapes and for what is no number."""
    if a.shape != b.shape:
        return math.inf
    found = norm(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    return math.inf if math.isnan(found) else found


def floor_of(tensors: Tensors) -> float:
    """The norm below which a tensor's own is no measure."""
    return FLOOR * math.sqrt(sum(norm(tensor) ** 2 for tensor in tensors.values()))


def relatives(ours: Tensors, theirs: Tensors) -> dict[str, float]:
    """The relative distance of each tensor that both have."""
    floor = floor_of(theirs)
    return {
        name: _over(distance(ours[name], tensor), max(norm(tensor), floor))
        for name, tensor in theirs.items()
        if name in ours
    }


def nearer_relatives(ours: Tensors, theirs: Tensors, exact: Tensors) -> dict[str, float]:
    """`relatives` to theirs in f32 or in f64, `exact`, whichever is nearer."""
    to_theirs = relatives(ours, theirs)
    return {name: min(value, to_theirs[name]) for name, value in relatives(ours, exact).items()}


def cosines(ours: Tensors, theirs: Tensors) -> dict[str, float]:
    """1 - cosine of each tensor that both have and that is above the floor."""
    floor = floor_of(theirs)
    found: dict[str, float] = {}
    for name, tensor in theirs.items():
        if name not in ours or norm(tensor) <= floor:
            continue
        a, b = (np.asarray(each, np.float64).reshape(-1) for each in (ours[name], tensor))
        sizes = norm(a) * norm(b)
        same = a.shape == b.shape and math.isfinite(sizes) and sizes > 0
        found[name] = max(0.0, 1 - float(a @ b) / sizes) if same else math.inf
    return found


def greatest(ours: Tensors, theirs: Tensors) -> dict[str, float]:
    """The greatest difference of an element of each tensor that both have."""
    found: dict[str, float] = {}
    for name, tensor in theirs.items():
        if name in ours:
            same = ours[name].shape == tensor.shape
            value = float(np.abs(np.asarray(ours[name], np.float64) - tensor).max()) if same else math.inf
            found[name] = math.inf if math.isnan(value) else value
    return found


def distances(ours: Tensors, theirs: Tensors) -> dict[str, float]:
    """||ours - theirs|| of each tensor that both have."""
    return {name: distance(ours[name], tensor) for name, tensor in theirs.items() if name in ours}


def excesses(ours: Tensors, own: Mapping[str, float], exact: Tensors) -> dict[str, float]:
    """How much further from `exact` each of our tensors is than theirs, whose distances are `own`."""
    floor = floor_of(exact)
    return {
        name: _over(distance(ours[name], tensor), max(own[name], ULP * max(norm(tensor), floor)))
        for name, tensor in exact.items()
        if name in ours and name in own
    }


def excess(ours: Tensors, theirs: Tensors, exact: Tensors) -> float:
    """The same of all tensors together. A tensor of few numbers may be near to `exact` by chance; all of
    them are not."""
    both = [name for name in exact if name in ours and name in theirs]
    part = math.hypot(*(distance(ours[name], exact[name]) for name in both))
    own = math.hypot(*(distance(theirs[name], exact[name]) for name in both))
    return _over(part, max(own, ULP * math.hypot(*(norm(exact[name]) for name in both))))


def worst(name: str, values: Mapping[str, float], limit: float | None, reason: str | None = None) -> Figure:
    """The figure of the tensor that is worst off."""
    if not values:
        return Figure(name, None, limit, reason=reason or "there are no tensors")
    where = max(values, key=values.__getitem__)
    return Figure(name, values[where], limit, where, reason)


def _over(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return part / whole if whole > 0 else math.inf
