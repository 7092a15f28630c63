"""A mean with its uncertainty, the standard deviation of the mean, by llama-perplexity's rules:

    value = mean(x)    uncertainty = sqrt((mean(x^2) - mean(x)^2) / (n - 1))

and what follows for a function of means to first order: f(value), |f'(value)| * uncertainty.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Estimate(NamedTuple):
    """A figure and its uncertainty; NaN where values are too few or do not vary enough to tell."""

    value: float
    uncertainty: float

    def scaled(self, factor: float) -> "Estimate":
        """`factor` times both."""
        return Estimate(factor * self.value, factor * self.uncertainty)


def mean(values: Values) -> Estimate:
    """The mean of `values` [n], n above 0; of one value the uncertainty is 0."""
    return Estimate(float(values.mean()), math.sqrt(covariance(values, values)))


def covariance(a: Values, b: Values) -> float:
    """Of the means of `a` [n] and `b` [n]; 0 for one value."""
    n = len(a)
    return float(((a - a.mean()) * (b - b.mean())).mean()) / (n - 1) if n > 1 else 0.0


def exponential(of: Estimate) -> Estimate:
    """exp of a figure; infinite when that is too large for a number."""
    try:
        value = math.exp(of.value)
    except OverflowError:
        value = math.inf
    return Estimate(value, value * of.uncertainty)


def root_mean_square(values: Values) -> Estimate:
    """sqrt(mean(x^2)); the uncertainty of 0 is not known."""
    square = mean(values * values)
    root = math.sqrt(square.value)
    return Estimate(root, square.uncertainty / (2 * root) if root > 0 else math.nan)


def share(n_true: int, n: int) -> Estimate:
    """The part of `n` trials, n above 0, that `n_true` are; of one trial the uncertainty is 0."""
    part = n_true / n
    return Estimate(part, math.sqrt(part * (1 - part) / (n - 1)) if n > 1 else 0.0)


def finite(value: float) -> float | None:
    """A figure as JSON has it, which knows neither infinity nor NaN: those are null."""
    return value if math.isfinite(value) else None
