"""`replacing`: a file that is there whole or not at all; `size_text`: how long one is, for a message."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Of a file's name in that of the one beside it: a whole one may be as long as a name can be.
_NAME_LIMIT = 100


def size_text(n_bytes: int) -> str:
    """A size in the largest of MB, kB and bytes that is not larger, two digits of it at least."""
    for unit, name in ((10**6, "MB"), (10**3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:.{0 if n_bytes >= 10 * unit else 1}f} {name}"
    return f"{n_bytes} bytes"


@contextmanager
def replacing(path: Path, private: bool = False) -> Generator[BinaryIO]:
    """A file to write, which is the one at `path` once the block is through, and gone when it is not.

    It is the user's like any other file, or `private`, for its owner alone. Raises OSError.
    """
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:_NAME_LIMIT]}.")
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
            if not private:
                umask = os.umask(0)
                os.umask(umask)
                os.fchmod(out.fileno(), 0o666 & ~umask)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
