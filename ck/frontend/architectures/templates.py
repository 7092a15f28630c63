"""What a new model may be called: templates, each an architecture with defaults, and presets, with sizes.

A template is an architecture by its own name, or a model that shares another's architecture and not its
defaults. A preset is a template in small sizes, given as keys of a training run's configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ck.frontend.architectures import ARCHITECTURES


@dataclass(frozen=True)
class TemplateName:
    """An architecture, and fields of `TemplateSizes` whose defaults are not the architecture's."""

    architecture: str
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])


_OWN = {
    # Numbers of Nanbeige 4.1; those of a later release with loops have an architecture of their own.
    "nanbeige": TemplateName("llama", {"head_dim": 128, "rope_base": 7e7, "rms_eps": 1e-5, "tied": False}),
    # The first release, the one with a window.
    "mistral": TemplateName("llama", {"rms_eps": 1e-5, "sliding_window": 4096}),
}
TEMPLATES = dict(sorted(({name: TemplateName(name) for name in ARCHITECTURES} | _OWN).items()))


def _tiny(template: str, *sizes: int) -> dict[str, Any]:
    """Keys of a small run; sizes in the order of the names below."""
    names = (
        "layers", "embed_dim", "hidden_dim", "context_len", "vocab_size", "num_heads", "num_kv_heads",
        "head_dim",
    )  # fmt: skip
    return {
        "model.template": template,
        **{f"model.{name}": size for name, size in zip(names, sizes, strict=True)},
        "model.init": "xavier_uniform",
        "data.tokenizer": "ascii_bpe",
        "optim.optimizer": "adamw",
    }


# Heads are 16 wide: attention at inference takes multiples of it.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "gemma3-tiny": _tiny("gemma3", 18, 160, 640, 1024, 1536, 10, 5, 16),
    "llama-tiny": _tiny("llama", 16, 128, 512, 512, 1024, 8, 4, 16),
    "nanbeige-tiny": _tiny("nanbeige", 16, 128, 512, 1024, 1024, 8, 8, 16),
    "qwen2-tiny": _tiny("qwen2", 12, 96, 384, 512, 1024, 8, 4, 16),
    "qwen3-tiny": _tiny("qwen3", 16, 128, 512, 512, 1024, 8, 4, 16),
    "qwen35-tiny": _tiny("qwen35", 16, 128, 512, 512, 1024, 8, 4, 16),
}
