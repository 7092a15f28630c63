"""How a family looks from outside: what transformers and the GGUF specification call its numbers and tensors.

One file a family, found by `find_outward`. Inside ck a tensor has its GGUF name and the conventions of GGUF
files; these modules translate, both ways. None of them imports the IR.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ck.frontend.architectures import ARCHITECTURES, FAMILIES
from ck.frontend.architectures.outward.config import ConfigReader, written
from ck.frontend.decays import is_filter
from ck.frontend.hyperparameters import HyperParameters

Array = NDArray[np.floating[Any]]
Scalar = bool | int | float | str | list[int] | NDArray[np.bool_]
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

    def from_huggingface_config(self, config: ConfigReader) -> HyperParameters:
        """The numbers of the model that config.json describes, of any release of transformers.

        Floats are rounded to f32, as a GGUF header holds them. Raises MalformedError for a field of the wrong
        type or out of range, UnsupportedError for every field that would change what the model computes and
        that ck does not have: each names its field.
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

    def gguf_metadata(self, hp: HyperParameters) -> Mapping[str, Scalar | list[bool]]:
        """The keys `<arch>.*` of a GGUF header, from which the family reads `hp` back, floats as f32."""
        ...


@dataclass(frozen=True)
class HuggingFaceClass:
    """A class of transformers whose folders ck reads: its name in `architectures`, and ck's family."""

    name: str
    family: str


# By the model_type of config.json.
HUGGINGFACE_CLASSES = {
    kind: HuggingFaceClass(name, family) for family, kinds in FAMILIES.items() for kind, name in kinds.items()
}


def family_of_config(config: ConfigReader) -> str:
    """The family of the model that config.json describes. Raises UnsupportedError when ck has no such."""
    kind = config.get("model_type")
    known = HUGGINGFACE_CLASSES.get(kind) if isinstance(kind, str) else None
    if known is None:
        names = ", ".join(sorted(HUGGINGFACE_CLASSES))
        raise config.unsupported(f"field model_type must be one of {names}, found {written(kind)}")
    classes = config.get("architectures")
    # A configuration that was never saved with a model names none.
    if classes is not None and classes != [known.name]:
        found = ", ".join(map(written, cast(list[Any], classes))) if isinstance(classes, list) else classes
        raise config.unsupported(f"field architectures must be [{known.name}], found {written(found)}")
    return known.family


def outward_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that transformers has for the tensor with this GGUF name and shape."""
    return (shape[0], 1, shape[1]) if is_filter(name) else shape


def find_outward(name: str) -> Outward | None:
    """The module of the family `name`; None when there is none."""
    return cast(Outward, import_module(f"{__name__}.{name}")) if name in ARCHITECTURES else None
