"""A sampler's settings by name, as a person types them during a chat."""

from dataclasses import fields
from typing import Any, cast

from ck.errors import UsageError
from ck.runtime.generate import Session
from ck.runtime.samplers.params import SamplingParams
from ck.runtime.sampling import Sampler
from ck.runtime.stops import check_stops

# Names as llama.cpp's flags have them.
FLAGS = {"typical": "typ_p", "mirostat_ent": "mirostat_tau", "mirostat_lr": "mirostat_eta"}
_PRESET = SamplingParams()


def change_setting(sampler: Sampler, session: Session, name: str, value: str) -> None:
    """Let the setting `name` be what `value` says; `stop` is a text, or several parted by commas.

    Raises UsageError, and nothing changes.
    """
    if name == "stop":
        stops = tuple(value.split(",")) if value else ()
        check_stops(stops)
        session.stop = stops
        return
    name = FLAGS.get(name, name)
    known = [field.name for field in fields(SamplingParams)]
    if name not in known:
        raise UsageError(f"set: must be one of {', '.join(known)}, stop, predict, found {name}")
    sampler.set(**{name: _parsed(name, value)})


def _parsed(name: str, value: str) -> Any:
    preset = getattr(_PRESET, name)
    if name == "samplers":
        return value
    if isinstance(preset, tuple):
        raise UsageError(f"set: {name} is given on the command line, not during a chat")
    if isinstance(preset, bool):
        if value.lower() not in ("on", "off", "true", "false", "1", "0"):
            raise UsageError(f"{name}: must be on or off, got {value}")
        return value.lower() in ("on", "true", "1")
    try:
        return type(preset)(value)
    except ValueError:
        kind = "a whole number" if isinstance(preset, int) else "a number"
        raise UsageError(f"{name}: must be {kind}, got {value}") from None


def settings_line(params: SamplingParams) -> str:
    """What differs from the presets, and the temperature, in a line."""
    differ = [
        field.name for field in fields(params) if getattr(params, field.name) != getattr(_PRESET, field.name)
    ]
    named = [name for name in differ if name not in ("temp", "seed")]
    return ", ".join(f"{name} {_written(getattr(params, name))}" for name in ("temp", *named))


def _written(value: Any) -> str:
    return ";".join(map(str, cast("tuple[Any, ...]", value))) if isinstance(value, tuple) else str(value)
