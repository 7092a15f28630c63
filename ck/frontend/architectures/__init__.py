"""One family of models a file: which header keys it has, which tensors, and how they become `ck` ops.

`ARCHITECTURES` is the list: general.architecture of a GGUF file -> the family's module.
"""

from typing import Protocol

from ck.frontend.architectures import gemma3, llama
from ck.frontend.gguf import Metadata
from ck.frontend.hyperparameters import HyperParameters


class Architecture(Protocol):
    """What each module of this package defines."""

    def read_hyperparameters(self, metadata: Metadata, n_vocab: int, tied: bool) -> HyperParameters:
        """The header's numbers, in range. Raises MalformedError, UnsupportedError naming the key."""
        ...

    def tensor_shapes(self, hp: HyperParameters) -> dict[str, tuple[int, ...]]:
        """Every tensor a file of this family must have, and its shape, outermost dimension first."""
        ...


ARCHITECTURES: dict[str, Architecture] = {"gemma3": gemma3, "llama": llama}
