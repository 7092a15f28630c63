"""Running compiled programs: `compile_model` and what it returns, with all that running one needs."""

from ck.runtime.model import Model, compile_model

__all__ = ["Model", "compile_model"]
