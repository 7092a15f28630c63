"""How a family looks from outside: what transformers and the GGUF specification call its numbers and tensors.

One file a family, found by `find_outward`. Inside ck a tensor has its GGUF name and the conventions of GGUF
files; these modules translate, both ways. None of them imports the IR.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.hyperparameters import HyperParameters

Array = NDArray[np.floating[Any]]
Scalar = bool | int | float | str
# What a tensor holds: values of a parameter, or its gradient or an optimizer's moment, to which a constant
# that a convention adds to the values does not apply.
Kind = Literal["weight", "gradient", "moment"]


class Outward(Protocol):
    """What each module of this package defines."""

    def huggingface_config(self, hp: HyperParameters) -> dict[str, Any]:
        """The fields of transformers' config.json (release 5), f32, without token ids.

        Raises UnsupportedError when transformers' model of the family cannot be given these numbers.
        """
        ...

    def huggingface_names(self, hp: HyperParameters) -> dict[str, str]:
        """GGUF name -> transformers' name of every tensor, as its `named_parameters` has them: a head that
        is the embedding has no name of its own."""
        ...

    def to_huggingface(
        self, hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
    ) -> dict[str, Array]:
        """`tensors`, any of the model's, under transformers' names and in its conventions.

        The floating type stays; an array may be a view of the one given. Raises UsageError for a name that
        the model does not have.
        """
        ...

    def from_huggingface(
        self, hp: HyperParameters, tensors: Mapping[str, Array], kind: Kind = "weight"
    ) -> dict[str, Array]:
        """The inverse of `to_huggingface`."""
        ...

    def gguf_metadata(self, hp: HyperParameters) -> dict[str, Scalar]:
        """The keys `<arch>.*` of a GGUF header, from which the family reads `hp` back, floats as f32."""
        ...


def find_outward(name: str) -> Outward | None:
    """The module of the family `name`; None when there is none."""
    return cast(Outward, import_module(f"{__name__}.{name}")) if name in ARCHITECTURES else None
