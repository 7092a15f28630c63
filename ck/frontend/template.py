"""`ck.template`: a family's architecture in sizes of one's own, with no weights yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.errors import UsageError
from ck.frontend.architectures import ARCHITECTURES, Architecture, find_architecture
from ck.frontend.hyperparameters import (
    CONTEXT_LIMIT,
    HEAD_DIM_LIMIT,
    HEAD_LIMIT,
    LAYER_LIMIT,
    VOCAB_LIMIT,
    WIDTH_LIMIT,
    HyperParameters,
    TemplateSizes,
)
from ck.frontend.initializers import initial_weights

_LIMITS = {
    "layers": LAYER_LIMIT,
    "embed_dim": WIDTH_LIMIT,
    "hidden_dim": WIDTH_LIMIT,
    "num_heads": HEAD_LIMIT,
    "num_kv_heads": HEAD_LIMIT,
    "head_dim": HEAD_DIM_LIMIT,
    "vocab_size": VOCAB_LIMIT,
    "context_len": CONTEXT_LIMIT,
}


@dataclass(frozen=True)
class Template:
    """A model to be trained: its numbers, its family's module, and the shape of each of its tensors."""

    hp: HyperParameters
    architecture: Architecture
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def n_parameters(self) -> int:
        """Trained numbers."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def initial_weights(self, init: str = "normal_0p02", seed: int = 42) -> dict[str, NDArray[np.float32]]:
        """First weights by name: ck/frontend/initializers.py. Raises UsageError."""
        return initial_weights(self.shapes, init, seed)


def make_template(
    family: str,
    *,
    layers: int,
    embed_dim: int,
    hidden_dim: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    vocab_size: int,
    context_len: int = 512,
    **options: Any,
) -> Template:
    """A family's architecture with these sizes.

    num_kv_heads  default: num_heads;  head_dim  default: embed_dim / num_heads, even
    options       rope_base, rms_eps, tied, sliding_window, window_pattern; the family's defaults where left
    out

    Raises UsageError that names every size which does not fit.
    """
    architecture = find_architecture(family)
    if architecture is None:
        raise UsageError(f"template: one of {', '.join(ARCHITECTURES)} is required, found {family}")
    unknown = sorted(options.keys() - TemplateSizes.__dataclass_fields__.keys())
    if unknown:
        raise UsageError(f"template: has no option {', '.join(unknown)}")
    sizes = TemplateSizes(
        layers=layers,
        embed_dim=embed_dim,
        hidden_dim=hidden_dim,
        num_heads=num_heads,
        num_kv_heads=num_heads if num_kv_heads is None else num_kv_heads,
        head_dim=embed_dim // max(1, num_heads) if head_dim is None else head_dim,
        vocab_size=vocab_size,
        context_len=context_len,
        **options,
    )
    return template_of(family, sizes)


def template_of(family: str, sizes: TemplateSizes) -> Template:
    """The template of checked sizes. Raises UsageError."""
    architecture = find_architecture(family)
    assert architecture is not None
    wrong = _mistakes(sizes)
    if wrong:
        raise UsageError(f"template: {'; '.join(wrong)}")
    hp = architecture.template(sizes)
    return Template(hp, architecture, architecture.tensor_shapes(hp))


def template_from(hp: HyperParameters) -> Template:
    """The template whose numbers are `hp`, as a run directory keeps them."""
    architecture = find_architecture(hp.arch)
    if architecture is None:
        raise UsageError(f"template: one of {', '.join(ARCHITECTURES)} is required, found {hp.arch}")
    return Template(hp, architecture, architecture.tensor_shapes(hp))


def _mistakes(sizes: TemplateSizes) -> list[str]:
    wrong = [
        f"{name} must be from 1 to {limit}, found {getattr(sizes, name)}"
        for name, limit in _LIMITS.items()
        if not 1 <= getattr(sizes, name) <= limit
    ]
    if not wrong and sizes.num_heads % sizes.num_kv_heads:
        wrong.append(f"num_kv_heads must divide num_heads {sizes.num_heads}, found {sizes.num_kv_heads}")
    if sizes.head_dim % 2:
        wrong.append(f"head_dim must be even, found {sizes.head_dim}")
    return wrong
