"""ck: a compiler that turns language models into native CPU code.

m = ck.compile("model.gguf")
m.generate("What is the capital of France?")       m([1, 2, 3]) -> logits [T, V]
m.ir("scheduled")   m.source()   m.explain()
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ck.runtime.model import Model

__version__ = "0.1.0"
__all__ = ["__version__", "compile"]


def compile(model: Any, **options: Any) -> "Model":
    """Compile a model, or load it from the cache: see `ck.runtime.model.compile_model` for the options."""
    from ck.runtime.model import compile_model

    return compile_model(model, **options)
