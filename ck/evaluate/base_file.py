"""A base's log probabilities on disk, in llama-perplexity's format: what one program writes the other reads.

    "_logits_"   8 bytes
    C, V, N      i32 each: tokens a window, vocabulary, windows
    ids          i32 [N, C], as the text has them
    rows         [N, S] of `log_probs.row_type(V)`, S the scored tokens of a window

Numbers are little-endian.
"""

import shutil
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ck.errors import ConflictError, MalformedError, ResourceError, UsageError
from ck.evaluate.log_probs import row_bytes, row_type
from ck.evaluate.windows import MIN_WINDOW, n_scored
from ck.files import replacing, size_text

MAGIC = b"_logits_"
# No model has more tokens.
MAX_VOCABULARY = 1 << 24
_SIZES = struct.Struct("<3i")


def is_base_file(path: Path) -> bool:
    """Whether a file begins as one of log probabilities does."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class BaseFile:
    """A file that was written before: `ids` [N, C], `n_vocab`, and the rows of each window on demand.

    Raises MalformedError when the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            head = file.read(len(MAGIC) + _SIZES.size)
            if len(head) < len(MAGIC) + _SIZES.size or not head.startswith(MAGIC):
                raise MalformedError(f"{path}: must begin with {MAGIC.decode()} and three sizes, it does not")
            n_ctx, self.n_vocab, n_chunks = _SIZES.unpack(head[len(MAGIC) :])
            if n_ctx < MIN_WINDOW or not 1 <= self.n_vocab <= MAX_VOCABULARY or n_chunks < 1:
                raise MalformedError(
                    f"{path}: needs windows of {MIN_WINDOW} tokens at least, a vocabulary of up to "
                    f"{MAX_VOCABULARY} and a window, found {n_ctx}, {self.n_vocab} and {n_chunks}"
                )
            self._start = len(head) + 4 * n_ctx * n_chunks
            self._rows = n_scored(n_ctx)
            wanted = self._start + n_chunks * self._rows * row_bytes(self.n_vocab)
            if (size := path.stat().st_size) != wanted:
                raise MalformedError(
                    f"{path}: {n_chunks} windows of {n_ctx} tokens, {self.n_vocab} in the vocabulary, "
                    f"take {wanted} bytes, found {size}"
                )
            self._type = row_type(self.n_vocab)
            self.ids = np.fromfile(file, "<i4", n_ctx * n_chunks).reshape(n_chunks, n_ctx)
        if self.ids.min() < 0 or self.ids.max() >= self.n_vocab:
            raise MalformedError(
                f"{path}: token ids are 0 to {self.n_vocab - 1}, found {self.ids.min()} to {self.ids.max()}"
            )

    def rows(self, n: int, piece: slice) -> NDArray[np.void]:
        """The rows of window `n` that `piece`, of S, names. Raises MalformedError when they are none."""
        offset = self._start + (n * self._rows + piece.start) * self._type.itemsize
        rows = np.fromfile(self.path, self._type, piece.stop - piece.start, offset=offset)
        scale, floor = rows["scale"], rows["floor"]
        if not (np.isfinite(scale) & np.isfinite(floor) & (scale >= 0) & (floor <= 0)).all():
            raise MalformedError(
                f"{self.path}: every row needs a scale from 0 and a floor up to 0, window {n + 1} has others"
            )
        return rows


class BaseWriter:
    """A file that is being written, rows in order."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, rows: NDArray[np.void]) -> None:
        """Append rows of `row_type`."""
        self._file.write(rows.tobytes())


@contextmanager
def writing(path: Path, ids: NDArray[np.int32], n_vocab: int) -> Generator[BaseWriter]:
    """A writer of the file at `path` for windows `ids` [N, C]; the file is there once the block is through.

    An earlier such file is replaced. Raises ResourceError when the disk has not the room, UsageError when
    there can be no such file, ConflictError for a file that holds something else, a text or a model perhaps.
    """
    n_chunks, n_ctx = ids.shape
    n_bytes = 4 * ids.size + n_chunks * n_scored(n_ctx) * row_bytes(n_vocab)
    # A device or a pipe would be replaced by a file.
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path}: must be a plain file in a folder that exists, it is not")
    if path.exists() and path.stat().st_size and not is_base_file(path):
        raise ConflictError(
            f"{path}: must be new or hold log probabilities, it does not; choose another name"
        )
    if (free := shutil.disk_usage(path.parent).free) < n_bytes:
        raise ResourceError(
            f"{path}: needs {size_text(n_bytes)} of disk, {size_text(free)} are free; give fewer --chunks"
        )
    with replacing(path) as out:
        out.write(MAGIC + _SIZES.pack(n_ctx, n_vocab, n_chunks) + ids.astype("<i4").tobytes())
        yield BaseWriter(out)
