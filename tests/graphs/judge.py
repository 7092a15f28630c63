"""Compare what several runs of one program gave, and say who disagrees with whom on what.

    bits    equal, NaN to NaN whatever its payload
    near    |a - b|^2 <= floor * |b|^2 + slack * noise, |.|^2 a sum over a value's elements

`noise` is what the program itself makes of rounding: the squared distance from its f64 run of its f32 run,
and of f64 runs on weights moved by the size of its roundings, in which what each op makes is moved so too
(Monte Carlo arithmetic, Parker 1997). What cancels or divides by little has much of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import Operation, SSAValue

from ck.ir.op import Updates
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.weight import WeightOp

Outcome = Mapping[str, np.ndarray]

# Of f32 sums in other orders and of other polynomials: 2^-24 squared is 4e-15.
SINGLE, SINGLE_STEP = 1e-12, 2.0**-23
# What an op makes is rounded to f32 by half of its last bit.
ROUNDING = 2.0**-24
SLACK = 256
# Runs on moved weights.
NUDGES = range(3)


class Disagreement(AssertionError):
    """Two runs of one program differ."""


@dataclass(frozen=True)
class Bound:
    """How near two runs are, see above; `noise` by the value's name."""

    floor: float
    slack: float
    noise: Mapping[str, float]


def squared(values: np.ndarray) -> float:
    """The sum of squares in f64."""
    return float((values.astype(np.float64) ** 2).sum())


def distances(a: Outcome, b: Outcome) -> dict[str, float]:
    """The squared distance of every value."""
    return {name: squared(a[name].astype(np.float64) - b[name]) for name in b}


def noise_of(exact: Outcome, *others: Outcome) -> dict[str, float]:
    """The noise of every value: all that other runs are apart from the f64 run."""
    apart = [distances(other, exact) for other in others]
    return {name: float(sum(np.nan_to_num(part[name]) for part in apart)) for name in exact}


def moved(weights: Outcome, step: float, seed: int) -> dict[str, np.ndarray]:
    """Weights each moved by about `step` of itself; frequencies, which turn far, stay."""
    rng = np.random.default_rng(seed)
    return {
        name: value if name.startswith("freq") else value * (1 + step * rng.standard_normal(value.shape))
        for name, value in weights.items()
    }


def rounding(seed: int) -> Callable[[SSAValue, Operation, Any], None]:
    """Moves what ops make by as much as f32 rounds it; weights and states keep their bits."""
    rng = np.random.default_rng(seed)

    def move(_: SSAValue, op: Operation, value: Any) -> None:
        if not isinstance(op, WeightOp | CacheOp | Updates) and getattr(value, "dtype", None) == np.float64:
            value *= 1 + ROUNDING * rng.standard_normal(value.shape)

    return move


def is_tame(outcome: Outcome) -> bool:
    """Whether f32 holds all of it, and its squares nearly."""
    return all(np.nanmax(np.abs(value.astype(np.float64)), initial=0.0) < 1e15 for value in outcome.values())


def assert_same_bits(who: str, got: Outcome, whom: str, want: Outcome) -> None:
    """Raises Disagreement at the first value that differs in a bit."""
    _assert_same_names(who, got, whom, want)
    for name, expected in want.items():
        found = got[name]
        bits = np.dtype(f"u{expected.itemsize}")
        differ = found.view(bits) != expected.view(bits)
        differ &= ~(np.isnan(found) & np.isnan(expected))
        if differ.any():
            raise Disagreement(_message(who, found, whom, expected, name, differ, "bits are required"))


def assert_near(who: str, got: Outcome, whom: str, want: Outcome, bound: Bound) -> float:
    """Raises Disagreement at the first value that is too far off; else the largest part of a bound used."""
    _assert_same_names(who, got, whom, want)
    worst = 0.0
    for name, expected in want.items():
        found = got[name]
        wrong = np.isfinite(found) != np.isfinite(expected)
        if wrong.any():
            raise Disagreement(_message(who, found, whom, expected, name, wrong, "numbers are required"))
        finite = np.isfinite(expected)
        error = squared(found[finite].astype(np.float64) - expected[finite])
        allowed = bound.floor * squared(expected[finite]) + bound.slack * bound.noise.get(name, 0.0)
        if error > allowed:
            far = np.abs(found.astype(np.float64) - expected)
            differ = far == np.nanmax(far)
            what = f"squared distance {error:.2e}, at most {allowed:.2e} is required"
            raise Disagreement(_message(who, found, whom, expected, name, differ, what))
        worst = max(worst, error / allowed if error else 0.0)
    return worst


def _assert_same_names(who: str, got: Outcome, whom: str, want: Outcome) -> None:
    if got.keys() != want.keys():
        raise Disagreement(f"{who} gives {sorted(got)}, {whom} {sorted(want)}")
    for name, expected in want.items():
        if got[name].shape != expected.shape:
            raise Disagreement(f"{name}: {who} gives {got[name].shape}, {whom} {expected.shape}")


def _message(
    who: str, found: np.ndarray, whom: str, expected: np.ndarray, name: str, differ: np.ndarray, what: str
) -> str:
    at = tuple(int(i) for i in np.argwhere(differ)[0])
    return (
        f"{name}: {what}; at {list(at)} {who} has {float(found[at])!r}, {whom} {float(expected[at])!r} "
        f"({int(differ.sum())} of {differ.size} elements)"
    )
