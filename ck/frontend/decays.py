"""How tensors of recurrent layers are kept: their decays as factors or as logarithms, their filters.

A decay multiplies the steps of a head by a number below zero. GGUF files keep the factor a = -e^w, in
blk.N.ssm_a; what is trained, and what transformers keeps, is its logarithm w, here blk.N.ssm_a_log. A model
has one of the two: `HyperParameters.log_decay` says which.
A filter [C, I], blk.N.ssm_conv1d.weight, is f32 in every GGUF file: its rows are shorter than a block.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.frontend.hyperparameters import HyperParameters

Weights = Mapping[str, NDArray[np.float32]]
FACTOR, LOGARITHM = "ssm_a", "ssm_a_log"
FILTER = "ssm_conv1d.weight"
# Of the steps that a decay multiplies.
STEP_BIAS = "ssm_dt.bias"


def decay_name(hp: HyperParameters, layer: int) -> str:
    """The decay of a recurrent layer, as the model holds it."""
    return f"blk.{layer}.{LOGARITHM if hp.log_decay else FACTOR}"


def is_filter(name: str) -> bool:
    """Whether the tensor is a recurrent layer's filter."""
    return name.endswith(f".{FILTER}")


def factor_of(logarithm: NDArray[Any]) -> NDArray[Any]:
    """-e^w."""
    return -np.exp(logarithm)


def logarithm_of(factor: NDArray[Any]) -> NDArray[Any]:
    """ln(-a), which a number that is not below zero does not have: infinite or not a number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(-factor)


class _Renamed(Mapping[str, NDArray[np.float32]]):
    """`weights` with the decays in their other form, made when they are asked for."""

    def __init__(self, weights: Weights, of: Mapping[str, str], logarithms: bool) -> None:
        self._weights, self._of = weights, of
        self._convert = logarithm_of if logarithms else factor_of
        self._others = {theirs: ours for ours, theirs in of.items()}

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._convert(self._weights[self._of[name]]) if name in self._of else self._weights[name]

    def __iter__(self) -> Iterator[str]:
        return (self._others.get(name, name) for name in self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def with_decays(hp: HyperParameters, weights: Weights, logarithms: bool) -> tuple[HyperParameters, Weights]:
    """The model with its decays as logarithms or as factors: itself where it has them so, or has none."""
    wanted = replace(hp, log_decay=logarithms)
    layers = range(len(hp.recurrent_layers))
    of = {decay_name(wanted, layer): decay_name(hp, layer) for layer in layers if hp.is_recurrent(layer)}
    if not of or hp == wanted:
        return hp, weights
    return wanted, _Renamed(weights, of, logarithms)
