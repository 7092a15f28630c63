"""Sliding windows outward: the fields of transformers' Qwen configurations, the keys of a GGUF header.

    transformers   sliding_window W where use_sliding_window, in layers that layer_types lists as
                   sliding_attention; without a list in those from max_window_layers on
    GGUF           attention.sliding_window W; sliding_window_pattern n: all but every n-th layer, 0: all; or
                   a list of the layers. llama.cpp reads them for families that always have windows only

A layer sees W tokens, its own among them.
"""

from collections.abc import Sequence
from typing import Any, cast

from ck.frontend.architectures.outward import Scalar
from ck.frontend.architectures.outward.common import refuse_windows
from ck.frontend.architectures.outward.config import ConfigReader, written
from ck.frontend.hyperparameters import (
    CONTEXT_LIMIT,
    LAYER_LIMIT,
    HyperParameters,
)
from ck.frontend.window_pattern import WINDOW_PATTERNS, window_pattern

# In `layer_types`.
GLOBAL, LOCAL = "full_attention", "sliding_attention"
# What the configuration classes have where a field is absent.
DEFAULTS = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}


def window_config(hp: HyperParameters) -> dict[str, Any]:
    """The fields of config.json for the window of `hp`, or for none."""
    return {
        "use_sliding_window": hp.sliding_window > 0,
        "sliding_window": hp.sliding_window or None,
        "layer_types": layer_types(hp),
    }


def layer_types(hp: HyperParameters) -> list[str]:
    """What kind each layer is."""
    return [LOCAL if hp.is_local(layer) else GLOBAL for layer in range(hp.n_layers)]


def read_window(config: ConfigReader, hp: HyperParameters) -> HyperParameters:
    """`hp` with the window of config.json. Raises MalformedError, UnsupportedError naming the field."""
    config = config.with_defaults(DEFAULTS)
    given = config.get("layer_types")
    if not config.flag("use_sliding_window") or config.get("sliding_window") is None:
        refuse_windows(config)
        return hp
    window = config.integer("sliding_window", 1, CONTEXT_LIMIT)
    if given is None:
        return hp.with_window(window, first=config.integer("max_window_layers", 0, LAYER_LIMIT))
    kinds = cast(Sequence[Any], given) if isinstance(given, list) else ()
    if len(kinds) != hp.n_layers or set(map(written, kinds)) - {GLOBAL, LOCAL}:
        wanted = f"list {hp.n_layers} layers, each {GLOBAL} or {LOCAL}"
        raise config.error(f"field layer_types must {wanted}, found {written(given)}")
    found = window_pattern([kind == LOCAL for kind in kinds])
    if found is None:
        raise config.unsupported(f"field layer_types must have {WINDOW_PATTERNS}, found others")
    return hp.with_window(window, *found)


def window_metadata(hp: HyperParameters) -> dict[str, Scalar | list[bool]]:
    """The keys of a GGUF header for the window of `hp`; none without one."""
    if not hp.sliding_window:
        return {}
    listed = [hp.is_local(layer) for layer in range(hp.n_layers)]
    return {
        f"{hp.arch}.attention.sliding_window": hp.sliding_window,
        f"{hp.arch}.attention.sliding_window_pattern": listed if hp.window_first else hp.window_pattern,
    }
