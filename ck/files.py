"""`replacing`: a file that is there whole or not at all."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Of a file's name in that of the one beside it: a whole one may be as long as a name can be.
_NAME_LIMIT = 100


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
