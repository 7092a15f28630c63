"""`LiveModel`: a transformers model object in this process.

Its tensors are read where they are, when a program is loaded with them: what they become later, it does not
see.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ck.errors import UnsupportedError, UsageError
from ck.frontend.architectures.outward.config import written
from ck.frontend.gguf.cursor import shown
from ck.frontend.huggingface.safetensors import FloatTensor
from ck.frontend.huggingface.transformers_model import TransformersModel, end_ids, template_text
from ck.frontend.sampling_defaults import SamplingDefaults, read_generation_sampling

if TYPE_CHECKING:
    from ck.frontend.tokenizer import Tokenizer

_DTYPES = {"torch.float32": "f32", "torch.float16": "f16", "torch.bfloat16": "bf16"}


def is_live(model: Any) -> bool:
    """Whether `model` looks like a transformers model."""
    config = getattr(model, "config", None)
    return callable(getattr(model, "state_dict", None)) and callable(getattr(config, "to_dict", None))


class LiveModel(TransformersModel):
    """The object `model`, with the transformers tokenizer that it is used with, if any.

    Raises UnsupportedError for a model that ck does not have, UsageError for a wrong `quantize`.
    """

    path = None

    def __init__(self, model: Any, tokenizer: Any = None, quantize: str | None = None) -> None:
        self.name = type(model).__name__
        config: dict[str, Any] = {**model.config.to_dict(), "architectures": [self.name]}
        super().__init__(config, f"{self.name}.config", _StateDict(model.state_dict()), quantize, self.name)
        self._tokenizer = tokenizer
        generation: Any = getattr(model, "generation_config", None)
        given = (config.get("eos_token_id"), getattr(generation, "eos_token_id", None))
        differs: Any = getattr(generation, "to_diff_dict", dict[str, Any])
        self._generation: Mapping[str, Any] = differs()
        self._ends = tuple(token for value in given for token in end_ids(value, self.name))

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's."""
        return template_text(getattr(self._tokenizer, "chat_template", None), f"{self.name} tokenizer")

    @property
    def sampling(self) -> SamplingDefaults | None:
        """What its generation_config changes."""
        return read_generation_sampling(self._generation, f"{self.name}.generation_config")

    @property
    def has_tokenizer(self) -> bool:
        """Whether one was given."""
        return self._tokenizer is not None

    def tokenizer(self) -> "Tokenizer":
        """The given tokenizer's rules in ck's hands. Raises UsageError when none was given."""
        from ck.frontend.huggingface.tokenizer import NAMED, TokenizerFiles, make_tokenizer

        if self._tokenizer is None:
            raise UsageError(f"{self.name}: has no tokenizer for text; give ck.compile one as tokenizer=")
        core: Any = getattr(self._tokenizer, "backend_tokenizer", None)
        if core is None:
            found = type(self._tokenizer).__name__
            raise UnsupportedError(
                f"{self.name}: the tokenizer must run on the tokenizers library, found {found}"
            )
        settings = {name: getattr(self._tokenizer, name, None) for name in NAMED}
        files = TokenizerFiles(core.to_str().encode(), f"{self.name} tokenizer", settings, self._ends)
        return make_tokenizer(files, self._hp.n_vocab)

    def drop_header_pages(self) -> None:
        """Nothing: the memory is torch's."""

    def record(self) -> dict[str, Any]:
        """What run.json keeps."""
        return {
            "file": None,
            "path": None,
            "header_sha256": self.header_digest(),
            "quantize": self._quantize,
        }


class _StateDict:
    """torch's tensors by name, as bytes."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors

    @property
    def names(self) -> list[str]:
        """Of all tensors."""
        return list(self._tensors)

    def tensor(self, name: str) -> FloatTensor:
        """Type and shape. Raises UnsupportedError for a type that ck does not read."""
        values = self._tensors[name]
        dtype = _DTYPES.get(str(values.dtype))
        if dtype is None:
            known = ", ".join(_DTYPES)
            raise UnsupportedError(f"{shown(name)}: must be {known}, found {written(values.dtype)}")
        return FloatTensor(dtype, tuple(values.shape), 0)

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The bytes: a view of torch's memory, a copy of what lies elsewhere or in another order."""
        # numpy has no bf16: torch itself has to say the bytes.
        torch: Any = import_module("torch")
        values = self._tensors[name].detach().cpu().contiguous()
        return values.reshape(-1).view(torch.uint8).numpy()

    def drop(self, name: str, start: int, n_bytes: int) -> None:
        """Nothing: the memory is torch's."""
