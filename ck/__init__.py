"""ck: a compiler that turns language models into native CPU code.

m = ck.compile("model.gguf")
m.generate("What is the capital of France?")       m([1, 2, 3]) -> logits [T, V]
m.ir("scheduled")   m.source()   m.explain()
ck.compile("model.gguf", backend="llvm")           c or llvm; by default c where a C compiler works

t = ck.compile(ck.template("llama", layers=4, …), mode="train", batch=8, seq=128)
t.step(tokens, targets) -> loss, grad norm
"""

from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    import os

    from ck.frontend.template import Template
    from ck.runtime.model import Model
    from ck.runtime.trainable import Trainable

__version__ = "0.1.0"
__all__ = ["__version__", "compile", "template"]


@overload
def compile(
    model: "str | os.PathLike[str] | Any", *, mode: Literal["run"] = "run", **options: Any
) -> "Model": ...


@overload
def compile(model: "Template", *, mode: Literal["train"], **options: Any) -> "Trainable": ...


def compile(model: Any, *, mode: str = "run", **options: Any) -> "Model | Trainable":
    """Compile a model, or load it from the cache.

    mode "run": a GGUF file, a model folder, a run directory, a name or a transformers model; options:
    `ck.runtime.model.compile_model`.
    mode "train": a template; options: `ck.runtime.trainable.compile_trainable`. Raises UsageError.
    """
    if mode == "train":
        from ck.runtime.trainable import compile_trainable

        return compile_trainable(model, **options)
    if mode != "run":
        from ck.errors import UsageError

        raise UsageError(f"mode: run or train is required, found {mode}")
    from ck.runtime.model import compile_model

    return compile_model(model, **options)


def template(family: str, **sizes: Any) -> "Template":
    """A family's architecture in sizes of one's own: see `ck.frontend.template.make_template`."""
    from ck.frontend.template import make_template

    return make_template(family, **sizes)


def __getattr__(name: str) -> Any:
    """`ck.train`, imported on first use."""
    if name == "train":
        from importlib import import_module

        return import_module("ck.train")
    raise AttributeError(f"module 'ck' has no attribute {name!r}")
