"""Shuffles that are the same on every machine and with every version of numpy.

A shuffle of n things sorts them by n words of Philox 4x64 with key (seed, 0) and counter (0, 0, purpose,
epoch); numpy promises that stream of words, and not what its generators make of it.
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ck.errors import UsageError


class Purpose(IntEnum):
    """What is shuffled; each has its own words."""

    DEV_SPLIT = 1
    WINDOWS = 2


def shuffled(n: int, seed: int, purpose: Purpose, epoch: int = 0) -> NDArray[np.int64]:
    """The numbers 0 to n - 1 in an order that depends on nothing but the arguments.

    Raises UsageError when `seed` is not 0 to 2^64 - 1.
    """
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"seed: must be 0 to 2^64 - 1, found {seed}")
    counter = np.array([0, 0, purpose, epoch], np.uint64)
    words = np.random.Philox(counter=counter, key=np.array([seed, 0], np.uint64)).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64)
