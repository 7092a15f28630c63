"""`ConfigReader`: the fields of a transformers config.json, typed and in range, each error naming the field.

A field that is absent has the default of the family's configuration class; what a class derives when a field
is absent or null, the family's module derives. Fields that no one asks for change nothing that is computed.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from ck.errors import MalformedError, UnsupportedError
from ck.frontend.gguf.cursor import shown

# Python's own float: an integer of a thousand digits compares with it.
_LARGEST = float(np.finfo(np.float32).max)


class ConfigReader:
    """`fields` of the file that errors call `where`; `defaults` are those of the configuration class."""

    def __init__(
        self, fields: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None
    ) -> None:
        self.fields = fields
        self.where = where
        self._defaults = defaults or {}

    def with_defaults(self, defaults: Mapping[str, Any]) -> "ConfigReader":
        """The same fields, with these values where a field is absent."""
        return ConfigReader(self.fields, self.where, {**self._defaults, **defaults})

    def error(self, text: str) -> MalformedError:
        """The error `text` about this file."""
        return MalformedError(f"{self.where}: {text}")

    def unsupported(self, text: str) -> UnsupportedError:
        """The error `text` about this file, when it is well formed and ck cannot read it."""
        return UnsupportedError(f"{self.where}: {text}")

    def get(self, field: str) -> Any:
        """The field's value, else its default; None where it is null or there is none."""
        return self.fields.get(field, self._defaults.get(field))

    def integer(self, field: str, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        value = self.get(field)
        if type(value) is not int or not low <= value <= high:
            raise self.error(
                f"field {field} must be a whole number from {low} to {high}, {self._found(field)}"
            )
        return value

    def positive(self, field: str) -> float:
        """A finite number above 0, as a GGUF header would hold it: rounded to f32."""
        return self.checked_positive(self.get(field), f"field {field}")

    def checked_positive(self, value: Any, what: str) -> float:
        """`value`, which errors call `what`, when it is a finite number above 0 in f32."""
        fits = type(value) in (int, float) and 0 < value < _LARGEST
        rounded = float(np.float32(value)) if fits else math.nan
        if not rounded > 0:
            raise self.error(f"{what} must be a finite number above 0, found {written(value)}")
        return rounded

    def flag(self, field: str) -> bool:
        """True or false."""
        value = self.get(field)
        if not isinstance(value, bool):
            raise self.error(f"field {field} must be true or false, {self._found(field)}")
        return value

    def mapping(self, field: str) -> Mapping[str, Any]:
        """An object; an empty one where the field is absent or null."""
        return self.checked_mapping(self.get(field), f"field {field}")

    def checked_mapping(self, value: Any, what: str) -> Mapping[str, Any]:
        """`value`, which errors call `what`, when it is an object or null."""
        if value is not None and not isinstance(value, Mapping):
            raise self.error(f"{what} must be an object, found {written(value)}")
        return cast(Mapping[str, Any], value or {})

    def refuse(self, field: str, *neutral: Any) -> None:
        """Raise UnsupportedError unless the field is absent, null or one of `neutral`."""
        value = self.get(field)
        if value is not None and not any(_equal(value, same) for same in neutral):
            wanted = " or ".join(["absent", *map(written, neutral)])
            raise self.unsupported(f"field {field} must be {wanted}, found {written(value)}")

    def _found(self, field: str) -> str:
        return f"found {written(self.get(field))}" if field in self.fields else "the file has none"


def _equal(a: Any, b: Any) -> bool:
    """Whether two values of JSON are the same: 1 is 1.0, and is not true."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def written(value: Any) -> str:
    """`value` as JSON writes it, short enough for an error message."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(cast(list[Any], value))}"
    return shown(str(value))
