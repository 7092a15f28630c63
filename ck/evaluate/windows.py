"""A text as llama-perplexity cuts it, and the logits that are scored.

The tokens of the text, with BOS before them where the vocabulary wants one, are cut into windows of C tokens,
one behind the other; what is left over is dropped. Each window is read from an empty cache, with BOS in the
place of its first token where the vocabulary wants one. Scored are the tokens from C // 2 + 1 on, so that
each has C // 2 + 1 tokens before it at least: S = C - 1 - C // 2 a window.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ck.errors import UsageError
from ck.frontend.tokenizer import Tokenizer
from ck.runtime.executable import Executable

Logits = NDArray[np.float32]
# A window of fewer scores nothing.
MIN_WINDOW = 3
# Of logits that are held at a time.
PIECE_BYTES = 128 << 20


@dataclass(frozen=True)
class Windows:
    """`ids` [N, C] as the text has them; `bos` takes the first place of each when there is one."""

    ids: NDArray[np.int32]
    bos: int | None

    @property
    def first(self) -> int:
        """The position whose logits are the first to be scored."""
        return first_scored(self.ids.shape[1])

    def whole(self, n: int) -> NDArray[np.int32]:
        """Window `n` [C] as a model is given it."""
        ids = self.ids[n].copy()
        if self.bos is not None:
            ids[0] = self.bos
        return ids

    def read(self, n: int) -> NDArray[np.int32]:
        """What a model is given of window `n` [C - 1] to score it: its last token is only foretold."""
        return self.whole(n)[:-1]

    def scored(self, n: int) -> NDArray[np.int32]:
        """The tokens [S] of window `n` that are to be foretold."""
        return self.ids[n, self.first + 1 :]


def first_scored(n_ctx: int) -> int:
    """The position whose logits are the first to be scored in a window of `n_ctx` tokens."""
    return n_ctx // 2


def n_scored(n_ctx: int) -> int:
    """Tokens of a window of `n_ctx` that are scored."""
    return n_ctx - 1 - first_scored(n_ctx)


def bos_of(tokenizer: Tokenizer) -> int | None:
    """What begins every window; None when the vocabulary wants nothing there."""
    return tokenizer.bos_id if tokenizer.add_bos else None


def cut(tokenizer: Tokenizer, text: str, where: str, n_ctx: int, n_chunks: int | None = None) -> Windows:
    """The windows of `text`, the first `n_chunks` of them at most; control tokens that it spells are text.

    Raises UsageError, which names `where`, when the text has not two windows' tokens, as llama-perplexity
    wants, and what `Tokenizer.encode` raises.
    """
    bos = bos_of(tokenizer)
    ids = [*([] if bos is None else [bos]), *tokenizer.encode(text, add_special=False)]
    if len(ids) < 2 * n_ctx:
        raise UsageError(
            f"{where}: {2 * n_ctx} tokens at least are required by windows of {n_ctx}, found {len(ids)}; "
            "lower -c or give a longer text"
        )
    count = len(ids) // n_ctx
    count = count if n_chunks is None else min(count, n_chunks)
    return Windows(np.array(ids[: count * n_ctx], np.int32).reshape(count, n_ctx), bos)


def pieces_of(n_ctx: int, n_vocab: int) -> Iterator[slice]:
    """The scored tokens of a window in the pieces that `row_pieces` makes."""
    return row_pieces(n_scored(n_ctx), n_vocab)


def row_pieces(count: int, n_vocab: int) -> Iterator[slice]:
    """`count` rows in pieces whose logits take PIECE_BYTES at most, or are one row."""
    rows = max(1, PIECE_BYTES // (4 * n_vocab))
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def scored_logits(exe: Executable, windows: Windows, n: int) -> Iterator[tuple[slice, Logits]]:
    """The logits of window `n` that are scored, a piece of `pieces_of` and its rows [rows, V] at a time."""
    ids = windows.read(n)
    exe.reset()
    exe.prefill(ids[: windows.first])
    for piece in pieces_of(windows.ids.shape[1], exe.n_vocab):
        yield piece, exe.score(ids[windows.first :][piece])
