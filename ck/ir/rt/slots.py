"""What a scheduled program needs from whoever runs it, as plain data: weights, caches, arena, arguments.

Stored beside the compiled program: a program from the cache is loaded without its IR, so nothing here imports
it. `ck.ir.rt.manifest` makes one from a module.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class WeightSlot:
    """A weight in memory: `storage` of a packed matrix [out, in], or "vector" for f32 as they are."""

    name: str
    shape: tuple[int, ...]
    storage: str
    n_bytes: int


@dataclass(frozen=True)
class CacheSlot:
    """What a layer keeps: `kind` kv, of `shape` [kv heads, capacity, head width], or state, of any shape."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    n_bytes: int

    def is_ring(self, n_ctx: int) -> bool:
        """Whether it holds fewer than `n_ctx` positions, and the last ones overwrite the first."""
        return self.kind == "kv" and self.shape[1] < n_ctx


@dataclass(frozen=True)
class Argument:
    """An argument of an entry: `kind` is i32, f32 (a buffer of `shape`) or index."""

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass
class Manifest:
    """Everything in the order of its number."""

    weights: list[WeightSlot] = field(default_factory=list[WeightSlot])
    caches: list[CacheSlot] = field(default_factory=list[CacheSlot])
    arena_bytes: int = 0
    entries: dict[str, list[Argument]] = field(default_factory=dict[str, list[Argument]])

    def to_json(self) -> dict[str, Any]:
        """As plain data for `from_json`."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Manifest":
        """The manifest that `to_json` wrote. Raises KeyError, TypeError for anything else."""
        return Manifest(
            [WeightSlot(**_shaped(slot)) for slot in data["weights"]],
            [CacheSlot(**_shaped(slot)) for slot in data["caches"]],
            data["arena_bytes"],
            {entry: [Argument(**_shaped(arg)) for arg in args] for entry, args in data["entries"].items()},
        )

    def fields(self) -> list[Argument]:
        """Arguments of all entries, each name once: the tail of the context."""
        return list({arg.name: arg for args in self.entries.values() for arg in args}.values())


def _shaped(record: dict[str, Any]) -> dict[str, Any]:
    """`record` with its shape a tuple, of which JSON makes a list."""
    return {**record, "shape": tuple(record["shape"])}
