"""Files that are there whole or not at all."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ck.runtime.paths import sync_directory

# How the name of an unfinished file starts.
UNFINISHED = ".new-"


@contextmanager
def replacing(target: Path) -> Generator[BinaryIO]:
    """A new file that takes the place of `target` when the block ends well and is durable then.

    When it does not, `target` stays as it was and nothing else is left behind.
    """
    scratch = target.with_name(f"{UNFINISHED}{os.getpid()}-{target.name}")
    try:
        with scratch.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, target)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    sync_directory(target.parent)
