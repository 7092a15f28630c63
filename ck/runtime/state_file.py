"""State files: a conversation and what the program's caches hold of it, to go on with later.

    8 bytes   "ck-state"
    u32       version, 1
    u64       bytes of the JSON that follows the digest
    32 bytes  SHA-256 of all that follows
    JSON      model, options, caches; tokens, high; system, turns, asked
    caches    of each the blocks of 64 positions in use, of keys and of values of every head as
              runtime_c/kernels/kv_append has them; or all of a recurrent state

A file is of one model and one shape of program: `StateIdentity` says which. Reading checks everything before
anything changes.
"""

import errno
import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ck.errors import ConflictError, MalformedError, ResourceError, UnsupportedError, UsageError
from ck.files import replacing
from ck.ir.rt.slots import CacheSlot
from ck.runtime.executable import Saved

MAGIC, VERSION = b"ck-state", 1
_HEAD = struct.Struct("<8sIQ32s")
# A conversation of a million tokens has some 10 MB of them.
JSON_LIMIT_BYTES = 64 << 20
# Positions that lie together in a cache, of keys as of values.
BLOCK = 64
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class StateIdentity:
    """What a state is of: a model, by its fingerprint, and a program's shape.

    options   what the program was compiled with, as run.json has it
    caches    its caches, in order
    """

    model: str
    name: str
    options: dict[str, Any]
    caches: tuple[CacheSlot, ...]

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True)
class ChatState:
    """What a file holds: the tokens in the caches and the caches; the system message, the turns, and the text
    that the last reply answered.
    """

    tokens: list[int]
    saved: Saved
    system: str | None
    turns: list[dict[str, str]]
    asked: str | None


def write_state(path: Path, identity: StateIdentity, state: ChatState) -> int:
    """Write the file at `path`, whole or not at all; its bytes.

    An earlier state is replaced. Raises UsageError, ResourceError, ConflictError for a file of another kind.
    """
    if not _is_free(path):
        raise ConflictError(f"{path.name}: must be new or a state file of ck, it is not; choose another name")
    fields = {
        **identity.as_json(),
        "tokens": state.tokens,
        "high": state.saved.high,
        "system": state.system,
        "turns": state.turns,
        "asked": state.asked,
    }
    text = json.dumps(fields).encode()
    parts = [
        _used(slot, raw, state.saved.high)
        for slot, raw in zip(identity.caches, state.saved.caches, strict=True)
    ]
    digest = hashlib.sha256(text)
    for part in parts:
        digest.update(part.data)
    head = _HEAD.pack(MAGIC, VERSION, len(text), digest.digest())
    _replace(path, [head, text, *parts])
    return len(head) + len(text) + sum(part.nbytes for part in parts)


def read_state(path: Path, identity: StateIdentity, n_ctx: int, n_vocab: int) -> ChatState:
    """The state in the file at `path`.

    Raises UsageError when it cannot be read or is of another model or program, MalformedError when it is none
    or damaged, UnsupportedError for another version.
    """
    where = path.name
    try:
        data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not"
        raise UsageError(f"{where}: must be a file that can be read, {reason}") from None
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise MalformedError(f"{where}: must be a state file of ck, found something else")
    if len(data) < _HEAD.size:
        raise MalformedError(f"{where}: is damaged: it ends after {len(data)} bytes")
    _, version, n_text, digest = _HEAD.unpack(bytes(data[: _HEAD.size]))
    if version != VERSION:
        raise UnsupportedError(f"{where}: must be a state file of version {VERSION}, found {version}")
    body = data[_HEAD.size :]
    if n_text > min(len(body), JSON_LIMIT_BYTES) or hashlib.sha256(body.data).digest() != digest:
        raise MalformedError(f"{where}: is damaged: its SHA-256 is not that of what it holds")
    fields = _fields(where, bytes(body[:n_text]))
    _check_identity(where, identity, fields)
    return _state(where, identity, fields, body[n_text:], n_ctx, n_vocab)


def _fields(where: str, text: bytes) -> dict[str, Any]:
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise MalformedError(f"{where}: must hold a JSON object, it does not")
    return cast("dict[str, Any]", fields)


def _check_identity(where: str, identity: StateIdentity, fields: dict[str, Any]) -> None:
    wanted = identity.as_json()
    if fields.get("model") != wanted["model"]:
        raise UsageError(
            f"{where}: must be of the model that runs, {identity.name}, it is of {fields.get('name')!r:.80}"
        )
    for name in ("options", "caches"):
        if fields.get(name) != wanted[name]:
            raise UsageError(
                f"{where}: must be of a program with {_shape(wanted)}, it is of one with {_shape(fields)}; "
                "run the model with the options it was saved with"
            )


def _shape(fields: dict[str, Any]) -> str:
    """The options of a program in words; how many caches it has when nothing else tells two apart."""
    options: Any = fields.get("options")
    if not isinstance(options, dict):
        return "no options"
    named = {
        "context_len": "-c", "chunk": "-b", "kv": "--kv", "dtype": "--dtype", "activations": "--activations",
    }  # fmt: skip
    given = cast("dict[str, Any]", options)
    # From a file that may be anybody's: as text, and short.
    words = [f"{flag} {_plain(given[name])}" for name, flag in named.items() if given.get(name) is not None]
    caches: Any = fields.get("caches")
    return f"{' '.join(words)} and {len(cast('list[Any]', caches)) if isinstance(caches, list) else 0} caches"


def _plain(value: Any) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(value)[:20])


def _state(
    where: str,
    identity: StateIdentity,
    fields: dict[str, Any],
    data: NDArray[np.uint8],
    n_ctx: int,
    n_vocab: int,
) -> ChatState:
    tokens, high = fields.get("tokens"), fields.get("high")
    whole = isinstance(tokens, list) and all(
        type(t) is int and 0 <= t < n_vocab for t in cast("list[Any]", tokens)
    )
    ids = cast("list[int]", tokens) if whole else []
    if not whole or type(high) is not int or not len(ids) <= high <= n_ctx:
        raise MalformedError(f"{where}: tokens must be ids of the model, at most {n_ctx}, they are not")
    turns, system, asked = fields.get("turns"), fields.get("system"), fields.get("asked")
    if not _are_turns(turns) or not isinstance(system, str | None) or not isinstance(asked, str | None):
        raise MalformedError(f"{where}: turns must be messages of texts, they are not")
    sizes = [_used_bytes(slot, high) for slot in identity.caches]
    if len(data) != sum(sizes):
        raise MalformedError(f"{where}: caches must have {sum(sizes)} bytes, found {len(data)}")
    parts = np.split(data, np.cumsum(sizes)[:-1]) if sizes else []
    caches = tuple(_whole(slot, part, high) for slot, part in zip(identity.caches, parts, strict=True))
    return ChatState(ids, Saved(len(ids), high, caches), system, cast("list[dict[str, str]]", turns), asked)


def _are_turns(turns: Any) -> bool:
    return isinstance(turns, list) and all(
        isinstance(turn, dict)
        and {"role", "content"} <= set(cast("dict[str, Any]", turn))
        and all(isinstance(text, str) for text in cast("dict[str, Any]", turn).values())
        for turn in cast("list[Any]", turns)
    )


def _blocks(slot: CacheSlot, high: int) -> tuple[int, int, int]:
    """Planes (keys and values of each head), blocks in use of each, and bytes a block."""
    if slot.kind != "kv":
        return 1, 1, slot.n_bytes
    heads, capacity = slot.shape[:2]
    n_blocks = capacity // BLOCK
    return 2 * heads, min(-(-high // BLOCK), n_blocks), slot.n_bytes // (2 * heads * n_blocks)


def _used_bytes(slot: CacheSlot, high: int) -> int:
    planes, n, size = _blocks(slot, high)
    return planes * n * size


def _used(slot: CacheSlot, raw: NDArray[np.uint8], high: int) -> NDArray[np.uint8]:
    planes, n, size = _blocks(slot, high)
    return np.ascontiguousarray(raw.reshape(planes, -1, size)[:, :n]).reshape(-1)


def _whole(slot: CacheSlot, part: NDArray[np.uint8], high: int) -> NDArray[np.uint8]:
    planes, n, size = _blocks(slot, high)
    raw = np.zeros(slot.n_bytes, np.uint8)
    raw.reshape(planes, -1, size)[:, :n] = part.reshape(planes, n, size)
    return raw


def _is_free(path: Path) -> bool:
    """Whether a state may take this place: nothing is there, nothing is in it, or an earlier state."""
    try:
        if not path.is_file():
            # A directory is refused where it is to be replaced, a device here.
            return not path.exists() or path.is_dir()
        with path.open("rb") as file:
            return file.read(len(MAGIC)) in (b"", MAGIC)
    except OSError:
        # What is wrong with it is said where it is written.
        return True


def _replace(path: Path, parts: list[Any]) -> None:
    """The parts one after another as the file at `path`, which only its owner may read."""
    try:
        with replacing(path, private=True) as out:
            for part in parts:
                out.write(part)
    except OSError as error:
        kind = ResourceError if error.errno in _FULL else UsageError
        raise kind(f"{path.name}: must be a file that can be written, {error.strerror}") from None
