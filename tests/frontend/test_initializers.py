"""First weights: their moments and bounds, the same bits everywhere, each tensor a stream of its own."""

import hashlib
import math

import numpy as np
import pytest

from ck.frontend.initializers import INITIALIZERS, initial_weights

SHAPES = {"w": (300, 200), "v": (200,)}
FAN_OUT, FAN_IN = SHAPES["w"]
N = FAN_OUT * FAN_IN
# Standard deviation and bound of each distribution; a normal one has no bound, though none of 6e4 normal
# numbers is 6 deviations away.
DEVIATION = {
    "normal_0p02": 0.02,
    "xavier_uniform": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "xavier_normal": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "kaiming_uniform": math.sqrt(2 / FAN_IN),
}
UNIFORM = ("xavier_uniform", "kaiming_uniform")
# The first 16 digits of the SHA-256 of the bytes of a tensor "w" [37, 53] at seed 42.
GOLDEN = {
    "kaiming_uniform": "6524cbe8b8874f29",
    "normal_0p02": "b52de413055ac6c8",
    "xavier_normal": "227b85c49d32c909",
    "xavier_uniform": "dadf42130297a076",
}
drawn = pytest.mark.parametrize("init", sorted(DEVIATION))


def matrix(init: str, seed: int = 42) -> np.ndarray:
    return initial_weights(SHAPES, init, seed)["w"]


def test_all_are_known() -> None:
    assert set(INITIALIZERS) == {*DEVIATION, "zeros"}


@drawn
def test_moments(init: str) -> None:
    """Mean, variance, skew and kurtosis, each within 5 of its own standard errors."""
    x = matrix(init).astype(np.float64).ravel() / DEVIATION[init]
    kurtosis = 1.8 if init in UNIFORM else 3.0
    eighth = 9.0 if init in UNIFORM else 105.0
    assert abs(x.mean()) <= 5 / math.sqrt(N)
    assert abs((x**2).mean() - 1) <= 5 * math.sqrt((kurtosis - 1) / N)
    assert abs((x**3).mean()) <= 5 * math.sqrt(15 / N)
    assert abs((x**4).mean() - kurtosis) <= 5 * math.sqrt((eighth - kurtosis**2) / N)


@drawn
def test_bounds(init: str) -> None:
    largest = np.abs(matrix(init)).max() / DEVIATION[init]
    if init in UNIFORM:
        assert math.sqrt(3) * 0.999 < largest <= math.sqrt(3) * (1 + 2**-23)
    else:
        assert 3.5 < largest < 6


@drawn
def test_the_shape_of_the_distribution(init: str) -> None:
    """The distance of the distribution functions: below 1.95 / sqrt(N) in 999 of 1000 draws."""
    x = np.sort(matrix(init).astype(np.float64).ravel()) / DEVIATION[init]
    if init in UNIFORM:
        expected = (x / math.sqrt(3) + 1) / 2
    else:
        expected = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    assert np.abs(expected - (np.arange(N) + 0.5) / N).max() <= 1.95 / math.sqrt(N)


@drawn
def test_numbers_do_not_hang_together(init: str) -> None:
    """Neighbours in a row, and in a column: no correlation beyond 5 standard errors."""
    x = matrix(init).astype(np.float64) / DEVIATION[init]
    for product in (x[:, :-1] * x[:, 1:], x[:-1] * x[1:]):
        assert abs(product.mean()) <= 5 / math.sqrt(product.size)


def test_zeros_and_gains() -> None:
    weights = initial_weights(SHAPES, "zeros", 42)
    assert not weights["w"].any()
    assert (weights["v"] == 1).all()


@drawn
def test_the_same_bits_everywhere(init: str) -> None:
    values = initial_weights({"w": (37, 53)}, init, 42)["w"]
    assert values.dtype == np.float32
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == GOLDEN[init]


@drawn
def test_a_tensor_depends_on_seed_and_name_alone(init: str) -> None:
    alone = initial_weights({"w": SHAPES["w"]}, init, 42)["w"]
    among = initial_weights({"a": (5, 7), "v": (3,), "w": SHAPES["w"], "z": (9, 9)}, init, 42)
    np.testing.assert_array_equal(among["w"], alone)
    assert not np.array_equal(matrix(init, seed=43), alone)
    other = initial_weights({"w": SHAPES["w"], "u": SHAPES["w"]}, init, 42)["u"]
    assert abs(np.corrcoef(other.ravel(), alone.ravel())[0, 1]) <= 5 / math.sqrt(N)
