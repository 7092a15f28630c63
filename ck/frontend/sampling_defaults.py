"""`SamplingDefaults`: how a model wants its tokens drawn, as its file says, by the names of ck's settings.

    GGUF                general.sampling.*, as llama.cpp writes and reads them
    a model folder      generation_config.json; "do_sample": false there is temperature 0

Values are numbers of the right kind; whether they are in range, ck/runtime/sampling.py knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ck.errors import MalformedError
from ck.frontend.architectures.outward.config import written
from ck.frontend.gguf.cursor import shown

_PREFIX = "general.sampling."
# Names in the file, behind the prefix, by ck's. Whole numbers are marked.
_GGUF = {
    "sequence": "samplers",
    "temp": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "penalty_last_n": "repeat_last_n",
    "penalty_repeat": "repeat_penalty",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}
_GENERATION = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typ_p",
    "repetition_penalty": "repeat_penalty",
}
_WHOLE = {"top_k", "repeat_last_n", "mirostat"}
# The largest f32, which not-a-number is not below.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SamplingDefaults:
    """`values` by the names of ck's settings; `source` has them."""

    source: str
    values: Mapping[str, Any]

    def line(self, given: Mapping[str, Any]) -> str:
        """One line for a person, `given` being settings that take the place of the model's."""
        used = [f"{name} {shown(str(value))}" for name, value in self.values.items() if name not in given]
        unused = [f"{name} {shown(str(value))}" for name, value in self.values.items() if name in given]
        instead = f"; in place of its {', '.join(unused)} what was given" if unused else ""
        return f"{', '.join(used) or 'nothing'} from {self.source}{instead}"


def read_gguf_sampling(metadata: Mapping[str, Any], name: str) -> SamplingDefaults | None:
    """What the header of the file called `name` has; None for nothing. Raises MalformedError."""
    given = {key: metadata[_PREFIX + key] for key in _GGUF if _PREFIX + key in metadata}
    return _made(given, _GGUF, name, _PREFIX)


def read_generation_sampling(config: Mapping[str, Any], name: str) -> SamplingDefaults | None:
    """What a generation_config.json called `name` has; None for nothing. Raises MalformedError."""
    given = {key: config[key] for key in _GENERATION if config.get(key) is not None}
    if config.get("do_sample") is False:
        given = {"temperature": 0.0, **{k: v for k, v in given.items() if k == "repetition_penalty"}}
    return _made(given, _GENERATION, name)


def _made(
    given: Mapping[str, Any], names: Mapping[str, str], name: str, prefix: str = ""
) -> SamplingDefaults | None:
    values = {
        names[key]: _checked(value, names[key], f"{name}: {prefix}{key}") for key, value in given.items()
    }
    source = f"{prefix}* of {name}" if prefix else name
    return SamplingDefaults(source, values) if values else None


def _checked(value: Any, name: str, where: str) -> float | int | str:
    if name == "samplers":
        if isinstance(value, str):
            return value
        raise MalformedError(f"{where}: must be a text, found {written(value)}")
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
    if not number or (name in _WHOLE and int(value) != value):
        wanted = "a whole number" if name in _WHOLE else "a finite number"
        raise MalformedError(f"{where}: must be {wanted}, found {written(value)}")
    # A file's f32 as its shortest decimal: 0.7, not 0.699999988.
    return int(value) if name in _WHOLE else float(str(np.float32(value)))
