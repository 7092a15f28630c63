"""One family of models a file: which header keys it has, which tensors, and how they become `ck` ops.

`FAMILIES` is the table of them: general.architecture of a GGUF file names the family's module. A module is
imported when its family is asked for: builders import the IR, which a start from the cache does without.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

from ck.frontend.gguf import Metadata
from ck.frontend.hyperparameters import HyperParameters, TemplateSizes


class Architecture(Protocol):
    """What each module of this package defines."""

    def read_hyperparameters(self, metadata: Metadata, n_vocab: int, tied: bool) -> HyperParameters:
        """The header's numbers, in range. Raises MalformedError, UnsupportedError naming the key."""
        ...

    def tensor_shapes(self, hp: HyperParameters) -> dict[str, tuple[int, ...]]:
        """Every tensor a file of this family must have, and its shape, outermost dimension first."""
        ...

    def template(self, sizes: TemplateSizes) -> HyperParameters:
        """The numbers of a new model of the family. Raises UsageError for what the family does not have."""
        ...

    def stored_as_one_plus(self, hp: HyperParameters) -> tuple[str, ...]:
        """Names of gains stored as 1 + w, of which the family's own parameter is w: decay draws them to 1."""
        ...


# The family's name, and model_type in config.json -> the class of transformers whose folders it reads.
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "gemma3": {"gemma3_text": "Gemma3ForCausalLM"},
    "llama": {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"},
    "qwen2": {"qwen2": "Qwen2ForCausalLM"},
    "qwen3": {"qwen3": "Qwen3ForCausalLM"},
    "qwen35": {"qwen3_5_text": "Qwen3_5ForCausalLM", "qwen3_5": "Qwen3_5ForConditionalGeneration"},
    "smollm3": {"smollm3": "SmolLM3ForCausalLM"},
}
ARCHITECTURES = tuple(FAMILIES)


def find_architecture(name: str) -> Architecture | None:
    """The module of the family `name`; None when there is none."""
    return cast(Architecture, import_module(f"{__name__}.{name}")) if name in ARCHITECTURES else None
