"""The JSON files of a model folder: read with limits, whatever is in them."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ck.errors import MalformedError, UsageError
from ck.frontend.architectures.outward.config import written
from ck.frontend.gguf.cursor import shown

# A real config.json has a few KiB; the index of a model of 100,000 tensors has 10 MB.
CONFIG_LIMIT_BYTES = 1 << 20
INDEX_LIMIT_BYTES = 32 << 20


def named(path: Path) -> str:
    """The file as errors call it: its folder and its name."""
    return f"{shown(path.parent.name)}/{shown(path.name)}"


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file. Raises UsageError when it cannot be read, MalformedError over `limit`."""
    try:
        # Asked before opening: opening a pipe would wait for its writer.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{named(path)}: must be a regular file, found something else")
        if status.st_size > limit:
            raise MalformedError(f"{named(path)}: must have at most {limit} bytes, found {status.st_size}")
        return path.read_bytes()
    except OSError as problem:
        raise UsageError(f"{named(path)}: the file cannot be read: {problem.strerror}") from None


def read_text(path: Path, limit: int) -> str:
    """The text of a file of UTF-8. Raises as `read_bytes`, and MalformedError for other bytes."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as problem:
        raise MalformedError(f"{named(path)}: must be UTF-8, byte {problem.start} is not") from None


def read_object(path: Path, limit: int = CONFIG_LIMIT_BYTES) -> Mapping[str, Any]:
    """The JSON object in a file. Raises as `read_text`, and MalformedError for anything else."""
    try:
        value: Any = json.loads(read_text(path, limit))
    except (ValueError, RecursionError) as problem:
        reason = "it is nested too deep" if isinstance(problem, RecursionError) else shown(str(problem))
        raise MalformedError(f"{named(path)}: must be JSON: {reason}") from None
    if not isinstance(value, dict):
        raise MalformedError(f"{named(path)}: must be a JSON object, found {written(value)}")
    return cast(Mapping[str, Any], value)


def read_optional(path: Path) -> Mapping[str, Any]:
    """The JSON object in a file, an empty one when there is no file. Raises as `read_object`."""
    return read_object(path) if os.path.lexists(path) else {}
