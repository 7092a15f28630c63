"""Samples of the optimizers: states of one type, moments as training leaves them, hyperparameters."""

import numpy as np
from xdsl.ir import Attribute

from ck.ir.types import shape, tensor
from tests.ops.case import Refusal, Sample

CHOICES = ({"decay": 1, "toward": 0.0}, {"decay": 1, "toward": 1.0}, {"decay": 0, "toward": 0.0})
# The norm and the factor that clips it.
NORM = (12.5, 0.75)


def sample(of: Attribute, n_moments: int, choice: int, hyper: tuple[float, ...], n_read: int) -> Sample:
    """Weight, gradient and moments of type `of`; the second moment is no negative number."""
    states = [of] * (2 + n_moments)
    given = {len(states): NORM, len(states) + 1: (*hyper, *[0.0] * (8 - n_read))}
    if n_moments == 2:
        given[3] = np.random.default_rng(5).chisquare(1, shape(of))
    return Sample((*states, tensor(2), tensor(8)), CHOICES[choice], given=given)


def refusals(n_moments: int) -> tuple[Refusal, ...]:
    """States of two types, and a norm or hyperparameters of another length."""
    states = (tensor(5),) * (1 + n_moments)
    properties = CHOICES[0]
    return (
        Refusal(Sample((*states, tensor(6), tensor(2), tensor(8)), properties), "have one type, got"),
        Refusal(Sample((*states, tensor(5), tensor(3), tensor(8)), properties), "norm is tensor<2x"),
        Refusal(Sample((*states, tensor(5), tensor(2), tensor(7)), properties), "hyper tensor<8x"),
    )
