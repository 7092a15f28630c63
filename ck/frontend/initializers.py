"""First weights of a new model: seeded, and the same numbers on every machine.

    normal_0p02       normal, standard deviation 0.02 (GPT-2's)
    xavier_uniform    uniform in +-sqrt(6 / (fan_in + fan_out))          Glorot and Bengio 2010
    xavier_normal     normal, standard deviation sqrt(2 / (fan_in + fan_out))
    kaiming_uniform   uniform in +-sqrt(6 / fan_in)                      He et al. 2015, arXiv:1502.01852
    zeros             all zero

They fill matrices [out, in]: fan_in is in, fan_out is out. Vectors are gains, which begin at 1, or biases
(`.bias`), which begin at 0. In recurrent layers, as in transformers', decays begin uniform in (0, 16) and are
kept as logarithms, and biases of their steps at 1; a filter's fans are the rows it reaches over. Each tensor
has a stream of its own, named by the seed and the tensor's name, so that one more layer changes no other.
Nothing here calls libm: numbers come from Philox's bits by additions, products, quotients and square roots,
which IEEE 754 fixes, so two machines cannot differ.
"""

import hashlib
import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ck.errors import UsageError
from ck.frontend.decays import LOGARITHM, STEP_BIAS, is_filter

Doubles = NDArray[np.float64]
LN2 = 0.6931471805599453


def initial_weights(
    shapes: Mapping[str, tuple[int, ...]], init: str, seed: int
) -> dict[str, NDArray[np.float32]]:
    """A tensor for each of `shapes`, f32. Raises UsageError for an unknown initialiser."""
    if init not in INITIALIZERS:
        raise UsageError(f"init: one of {', '.join(INITIALIZERS)} is required, found {init}")
    return {name: _tensor(name, shape, init, seed) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], init: str, seed: int) -> NDArray[np.float32]:
    if name.endswith(f".{LOGARITHM}"):
        return _log(8 * (1 + _open_unit(_stream(name, seed), shape[0]))).astype(np.float32)
    if len(shape) == 1:
        is_zero = name.endswith(".bias") and not name.endswith(STEP_BIAS)
        return np.full(shape, 0 if is_zero else 1, np.float32)
    fan_out, fan_in = shape
    if is_filter(name):
        # Of one channel, each on its own.
        fan_out = fan_in
    kind, size = INITIALIZERS[init](fan_in, fan_out)
    if kind is None:
        return np.zeros(shape, np.float32)
    return (size * kind(_stream(name, seed), math.prod(shape))).astype(np.float32).reshape(shape)


def uniform(name: str, shape: tuple[int, ...], limit: float, seed: int) -> NDArray[np.float32]:
    """The tensor `name`, uniform in +-limit."""
    return (limit * _open_unit(_stream(name, seed), math.prod(shape))).astype(np.float32).reshape(shape)


def _stream(name: str, seed: int) -> np.random.Philox:
    key = int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:16], "little")
    return np.random.Philox(key=key)


def _open_unit(bits: np.random.Philox, n: int) -> Doubles:
    """Uniform in (-1, 1), never 0: odd multiples of 2^-52."""
    raw: NDArray[np.uint64] = bits.random_raw(n)
    return ((raw >> np.uint64(11)).astype(np.float64) * 2 + 1) * 2.0**-53 - 1


def _log(x: Doubles) -> Doubles:
    """The natural logarithm of positive numbers: the series of artanh on [sqrt(1/2), sqrt(2)]."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    mantissa = np.where(small, 2 * mantissa, mantissa)
    s = (mantissa - 1) / (mantissa + 1)
    square, total = s * s, np.zeros_like(s)
    for odd in range(25, 0, -2):
        total = total * square + 1 / odd
    return (exponent - small) * LN2 + 2 * s * total


def _normal(bits: np.random.Philox, n: int) -> Doubles:
    """Standard normal numbers: Marsaglia's polar method, pairs in order."""
    made: list[Doubles] = []
    count = 0
    while count < n:
        pairs = _open_unit(bits, 2 * max(64, n - count)).reshape(-1, 2)
        radius = pairs[:, 0] * pairs[:, 0] + pairs[:, 1] * pairs[:, 1]
        inside = radius < 1
        pairs, radius = pairs[inside], radius[inside]
        made.append((pairs * np.sqrt(-2 * _log(radius) / radius)[:, None]).reshape(-1))
        count += len(made[-1])
    return np.concatenate(made)[:n]


# From (fan_in, fan_out) to a distribution and its factor.
Kind = Callable[[np.random.Philox, int], Doubles] | None
INITIALIZERS: dict[str, Callable[[int, int], tuple[Kind, float]]] = {
    "normal_0p02": lambda fan_in, fan_out: (_normal, 0.02),
    "xavier_uniform": lambda fan_in, fan_out: (_open_unit, math.sqrt(6 / (fan_in + fan_out))),
    "xavier_normal": lambda fan_in, fan_out: (_normal, math.sqrt(2 / (fan_in + fan_out))),
    "kaiming_uniform": lambda fan_in, fan_out: (_open_unit, math.sqrt(6 / fan_in)),
    "zeros": lambda fan_in, fan_out: (None, 0.0),
}
