"""Batches: windows of the token stream, shuffled by seed and epoch, as inputs and targets of a step.

Window w of a stream of S tokens has the inputs w*T .. w*T + T - 1 and, one further, the targets; there are
ceil((S - 1) / T), so every token but the first is a target once an epoch. What the last one lacks is
<|endoftext|> with target -1. An epoch visits every window once; a batch may end one epoch and begin the next.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError, UsageError
from ck.train.shuffle import Purpose, shuffled
from ck.train.tokens import TokenData, TokenStream

IGNORED = -1

I32 = NDArray[np.int32]


@dataclass(frozen=True)
class Batch:
    """B windows of T tokens.

    tokens      [B, T] i32
    targets     [B, T] i32, the next token; -1 where none is scored
    positions   [B, T] i32, within the document, or within the window where the document starts before it
    starts      [B, T] i32, the row (b*T + t) of the first token of the document that this one belongs to
    """

    tokens: I32
    targets: I32
    positions: I32
    starts: I32

    @property
    def n_targets(self) -> int:
        """Targets that are scored."""
        return int(np.count_nonzero(self.targets >= 0))


def n_windows(stream: TokenStream, seq_len: int) -> int:
    """Windows of `seq_len` inputs that `stream` has."""
    return -(-max(stream.n_tokens - 1, 0) // seq_len)


class BatchStream:
    """The batches of a training run, without end.

    `cursor` says where it stands: {"epoch": epochs done, "index": windows taken of the one under way}. A
    stream made with the cursor of another, and else the same arguments, goes on with the same batches.
    """

    def __init__(
        self, data: TokenData, seq_len: int, batch: int, seed: int, cursor: Mapping[str, int] | None = None
    ) -> None:
        """Raises MalformedError when there are fewer than seq_len + 1 tokens, UsageError for wrong sizes."""
        _check_sizes(seq_len, batch)
        self.seq_len, self.batch, self._seed = seq_len, batch, seed
        self._data = data
        needed, found = seq_len + 1, data.train.n_tokens
        if found < needed:
            raise MalformedError(
                f"{data.directory}: training needs at least {needed} tokens for a window of {seq_len},"
                f" found {found}; add text or lower --seq-len"
            )
        self.n_windows = n_windows(data.train, seq_len)
        self._epoch, self._index = self._check(cursor or {"epoch": 0, "index": 0})
        self._order: NDArray[np.int64] = self._shuffle()

    def _check(self, cursor: Mapping[str, int]) -> tuple[int, int]:
        epoch, index = cursor.get("epoch", -1), cursor.get("index", -1)
        if epoch < 0 or not 0 <= index < self.n_windows:
            raise UsageError(
                f"data cursor: epoch must be at least 0 and index 0 to {self.n_windows - 1},"
                f" found {epoch} and {index}; resume with the data and --seq-len of the run"
            )
        return epoch, index

    def _shuffle(self) -> NDArray[np.int64]:
        return shuffled(self.n_windows, self._seed, Purpose.WINDOWS, self._epoch)

    @property
    def cursor(self) -> dict[str, int]:
        """Where the stream stands, for the checkpoint."""
        return {"epoch": self._epoch, "index": self._index}

    @property
    def epochs(self) -> float:
        """Passes over the data so far."""
        return self._epoch + self._index / self.n_windows

    @property
    def tokens_seen(self) -> int:
        """Targets given so far."""
        in_epoch = self._data.train.n_tokens - 1
        n_padding = self.n_windows * self.seq_len - in_epoch
        last_given = bool(np.any(self._order[: self._index] == self.n_windows - 1))
        return self._epoch * in_epoch + self._index * self.seq_len - n_padding * last_given

    def next(self, k: int = 1) -> list[Batch]:
        """The next `k` batches of `batch` windows each."""
        return [self._next() for _ in range(k)]

    def _next(self) -> Batch:
        windows = list[int]()
        while len(windows) < self.batch:
            taken = self._order[self._index :][: self.batch - len(windows)]
            windows += taken.tolist()
            self._index += len(taken)
            if self._index == self.n_windows:
                self._epoch, self._index = self._epoch + 1, 0
                self._order = self._shuffle()
        return _make_batch(self._data, self._data.train, windows, self.seq_len)


def dev_batches(data: TokenData, seq_len: int, batch: int, limit: int | None = None) -> Iterator[Batch]:
    """The dev windows in order, all of them or the first `limit`; the last batch may have fewer."""
    _check_sizes(seq_len, batch)
    windows = list(range(n_windows(data.dev, seq_len)))[:limit]
    for first in range(0, len(windows), batch):
        yield _make_batch(data, data.dev, windows[first : first + batch], seq_len)


def dev_bytes(data: TokenData) -> int:
    """Bytes of text that the targets of all dev windows stand for: bits per byte = nll sum / ln 2 / bytes."""
    return data.dev.n_bytes


def target_bytes(data: TokenData, batch: Batch) -> int:
    """Bytes of text that the scored targets of `batch` stand for; <|endoftext|> stands for none."""
    return int(data.tokenizer.token_bytes[batch.targets[batch.targets >= 0]].sum())


def _check_sizes(seq_len: int, batch: int) -> None:
    if min(seq_len, batch) < 1:
        raise UsageError(f"seq_len and batch: must be at least 1, found {seq_len} and {batch}")


def _make_batch(data: TokenData, stream: TokenStream, windows: list[int], seq_len: int) -> Batch:
    end_id, n_vocab = data.tokenizer.end_id, data.tokenizer.n_vocab
    both = np.full((len(windows), seq_len + 1), end_id, np.int32)
    scored = np.zeros(both.shape, np.bool_)
    for row, window in enumerate(windows):
        ids = stream.read(window * seq_len, window * seq_len + seq_len + 1)
        both[row, : len(ids)], scored[row, : len(ids)] = ids, True
    # The step gathers by id without a check of its own.
    if not 0 <= both.min() <= both.max() < n_vocab:
        raise MalformedError(
            f"{data.directory}: token ids must be 0 to {n_vocab - 1}, found {both.min()} to {both.max()};"
            " encode the data again"
        )
    tokens = np.ascontiguousarray(both[:, :-1])
    targets = np.where(scored[:, 1:], both[:, 1:], np.int32(IGNORED))
    columns = np.arange(seq_len, dtype=np.int32)
    firsts = np.maximum.accumulate(np.where(tokens == end_id, columns, np.int32(0)), axis=1)
    rows = np.arange(len(windows), dtype=np.int32)[:, None] * np.int32(seq_len)
    return Batch(tokens, targets, columns - firsts, rows + firsts)
