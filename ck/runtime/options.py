"""What shapes a model's program, beside the model."""

from typing import NamedTuple

from ck.dtypes import ACTIVATIONS
from ck.errors import UsageError

KV_TYPES = ("f16", "f32")


class Options(NamedTuple):
    """As `ck.runtime.model.compile_model` takes them."""

    context_len: int | None
    kv: str
    dtype: str | None
    chunk: int
    activations: str = "q16"

    def checked(self) -> "Options":
        """Themselves. Raises UsageError for a value that is none."""
        if self.kv not in KV_TYPES:
            raise UsageError(f"kv: one of {', '.join(KV_TYPES)} is required, found {self.kv}")
        if self.dtype not in (None, "f32"):
            raise UsageError(f"dtype: f32 or None is required, found {self.dtype}")
        if self.chunk < 1:
            raise UsageError(f"chunk: 1 row at least is required, found {self.chunk}")
        if self.activations not in ACTIVATIONS:
            raise UsageError(
                f"activations: one of {', '.join(ACTIVATIONS)} is required, found {self.activations}"
            )
        return self
