"""What the matrix trains on: lines of words drawn by chance, and rows of packed documents."""

import random
from collections.abc import Sequence

import numpy as np

from ck.runtime.trainable import Rows
from ck.train.batches import Batch

WORDS = "the a small model reads text and learns to write more of it while rows of numbers turn into words"


def corpus(n_lines: int = 150, seed: int = 1) -> str:
    """Lines of words drawn by chance, always the same."""
    chance = random.Random(seed)
    words = WORDS.split()
    lines = [" ".join(chance.choice(words) for _ in range(chance.randint(4, 12))) for _ in range(n_lines)]
    return "".join(f"{line}.\n" for line in lines)


def documents(lengths: Sequence[int], n_vocab: int, seed: int = 0) -> Rows:
    """Rows of documents of these lengths, their ids and targets drawn by chance; about one in 9 unscored."""
    rng, n = np.random.default_rng(seed), sum(lengths)
    tokens, targets = (rng.integers(0, n_vocab, n).astype(np.int32) for _ in range(2))
    targets[rng.random(n) < 1 / 9] = -1
    firsts = np.cumsum([0, *lengths[:-1]])
    positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    return Rows(tokens, targets, positions, np.repeat(firsts, lengths).astype(np.int32))


def packed(rows: Rows, first: int, end: int) -> Batch:
    """Rows `first` to `end` as one window."""
    part = slice(first, end)
    starts = (rows.starts[part] - np.int32(first))[None]
    return Batch(rows.tokens[part][None], rows.targets[part][None], rows.positions[part][None], starts)
