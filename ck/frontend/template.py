"""`ck.template`: a family's architecture in sizes of one's own, with no weights yet."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.errors import UsageError
from ck.frontend.adapters import Adapters
from ck.frontend.architectures import ARCHITECTURES, Architecture, find_architecture
from ck.frontend.architectures.templates import TEMPLATES, TemplateName
from ck.frontend.hyperparameters import (
    CONTEXT_LIMIT,
    HEAD_LIMIT,
    LAYER_LIMIT,
    STATE_LIMIT,
    TAPS_RANGE,
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
    # What the attention of training takes.
    "head_dim": 512,
    "vocab_size": VOCAB_LIMIT,
    "context_len": CONTEXT_LIMIT,
}
# Options of recurrent layers; heads as wide as their training takes.
_STATES = {
    "attention_interval": LAYER_LIMIT, "state_heads": HEAD_LIMIT, "state_keys": HEAD_LIMIT,
    "state_key_dim": STATE_LIMIT, "state_value_dim": STATE_LIMIT, "conv_taps": TAPS_RANGE[1],
}  # fmt: skip
# Options that are sizes too.
_OPTIONS = {"sliding_window": CONTEXT_LIMIT, "window_pattern": LAYER_LIMIT, **_STATES}


@dataclass(frozen=True)
class Template:
    """A model to be trained: its numbers, its family's module, and the shape of each of its tensors.

    adapters   what is trained in place of these tensors, which are frozen then; None: nothing is
    """

    hp: HyperParameters
    architecture: Architecture
    shapes: Mapping[str, tuple[int, ...]]
    adapters: Adapters | None = None

    @property
    def trained(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the trained tensors."""
        return self.shapes if self.adapters is None else self.adapters.shapes(self.shapes)

    @property
    def frozen(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the tensors that training reads and leaves as they are."""
        return {} if self.adapters is None else self.shapes

    @property
    def n_parameters(self) -> int:
        """Trained numbers."""
        return sum(math.prod(shape) for shape in self.trained.values())

    def initial_weights(self, init: str = "normal_0p02", seed: int = 42) -> dict[str, NDArray[np.float32]]:
        """First values of the trained tensors: initializers.py, adapters.py. Raises UsageError."""
        if self.adapters is not None:
            return self.adapters.initial(self.shapes, seed)
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
    """A family's architecture with these sizes; `family` is one of TEMPLATES.

    num_kv_heads  default: num_heads;  head_dim  default: embed_dim / num_heads, which is then whole, unless
    the template has one of its own; even
    options       rope_base, rms_eps, tied, sliding_window, window_pattern, attention_interval, state_heads,
    state_keys, state_key_dim, state_value_dim, conv_taps; the template's defaults where left out

    Raises UsageError that names every size which does not fit.
    """
    find_template(family)
    unknown = sorted(options.keys() - TemplateSizes.__dataclass_fields__.keys())
    if unknown:
        raise UsageError(f"template: has no option {', '.join(unknown)}")
    sizes = TemplateSizes(
        layers=layers,
        embed_dim=embed_dim,
        hidden_dim=hidden_dim,
        num_heads=num_heads,
        num_kv_heads=num_heads if num_kv_heads is None else num_kv_heads,
        head_dim=default_head_dim(family, embed_dim, num_heads) if head_dim is None else head_dim,
        vocab_size=vocab_size,
        context_len=context_len,
        **options,
    )
    return template_of(family, sizes)


def find_template(name: str) -> TemplateName:
    """The template `name`. Raises UsageError when there is none."""
    if name not in TEMPLATES:
        raise UsageError(f"template: one of {', '.join(TEMPLATES)} is required, found {name}")
    return TEMPLATES[name]


def template_of(family: str, sizes: TemplateSizes) -> Template:
    """The template of checked sizes. Raises UsageError."""
    known = find_template(family)
    left_out = {name: value for name, value in known.defaults.items() if getattr(sizes, name) is None}
    sizes = replace(sizes, **left_out)
    architecture = find_architecture(known.architecture)
    assert architecture is not None
    wrong = _mistakes(sizes)
    if wrong:
        raise UsageError(f"template: {'; '.join(wrong)}")
    hp = architecture.template(sizes)
    given = [name for name in _STATES if getattr(sizes, name) is not None]
    if given and not hp.recurrent_layers:
        raise UsageError(f"template {family}: has no recurrent layers; leave {', '.join(given)} out")
    return Template(hp, architecture, architecture.tensor_shapes(hp))


def template_from(hp: HyperParameters, adapters: Adapters | None = None) -> Template:
    """The template whose numbers are `hp`, as a run directory keeps them, with `adapters`."""
    architecture = find_architecture(hp.arch)
    if architecture is None:
        raise UsageError(f"template: one of {', '.join(ARCHITECTURES)} is required, found {hp.arch}")
    return Template(hp, architecture, architecture.tensor_shapes(hp), adapters)


def default_head_dim(family: str, embed_dim: Any, num_heads: Any) -> Any:
    """The width of a head that nobody chose: the template's own, else what the division gives.

    That is a whole number, or one that `_mistakes` refuses; 2 where there is none.
    """
    own = TEMPLATES[family].defaults.get("head_dim") if family in TEMPLATES else None
    if own is not None:
        return own
    if not (_is_whole(embed_dim) and _is_whole(num_heads) and num_heads > 0):
        return 2
    return embed_dim / num_heads if embed_dim % num_heads else embed_dim // num_heads


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _in_range(value: Any, limit: int) -> bool:
    return _is_whole(value) and 1 <= value <= limit


def _mistakes(sizes: TemplateSizes) -> list[str]:
    """Everything that is wrong with `sizes`, a line each."""
    limits = {
        **_LIMITS,
        **{name: limit for name, limit in _OPTIONS.items() if getattr(sizes, name) is not None},
    }
    wrong = [
        f"{name} must be a whole number from 1 to {limit}, found {getattr(sizes, name)}"
        for name, limit in limits.items()
        if not _in_range(getattr(sizes, name), limit)
    ]
    heads, kv_heads, head_dim = sizes.num_heads, sizes.num_kv_heads, sizes.head_dim
    if _in_range(heads, HEAD_LIMIT) and _in_range(kv_heads, HEAD_LIMIT) and heads % kv_heads:
        wrong.append(f"num_kv_heads must divide num_heads {heads}, found {kv_heads}")
    if _is_whole(head_dim) and head_dim % 2:
        wrong.append(f"head_dim must be even, found {head_dim}")
    wrong += _state_mistakes(sizes)
    for name, limit in (("rope_base", math.inf), ("rms_eps", 1.0)):
        value = getattr(sizes, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 < value < limit):
            wrong.append(f"{name} must be a number above 0 and below {limit}, found {value}")
    tied: Any = sizes.tied
    if not isinstance(tied, bool | None):
        wrong.append(f"tied must be True or False, found {tied!r}")
    return wrong


def _state_mistakes(sizes: TemplateSizes) -> list[str]:
    """What is wrong with recurrent layers beside the range of each number."""
    heads, taps = sizes.state_heads or sizes.num_heads, sizes.conv_taps
    keys = sizes.state_keys or sizes.num_kv_heads
    wrong: list[str] = []
    given = sizes.state_heads is not None or sizes.state_keys is not None
    if given and _in_range(heads, HEAD_LIMIT) and _in_range(keys, HEAD_LIMIT) and heads % keys:
        wrong.append(f"state_keys must divide the {heads} state_heads, found {keys}")
    if taps == 1:
        wrong.append(f"conv_taps must be {TAPS_RANGE[0]} at least, found {taps}")
    return wrong
