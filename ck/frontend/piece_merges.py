"""Merges that make byte-pair merging of a piece vocabulary choose as its scores do.

A piece vocabulary is encoded by joining, again and again, the adjacent pair whose joined text is the piece
with the highest score, the leftmost first among equals. A pair of pieces (a, b) may be joined when a + b is a
piece, so the merges are all splits of all pieces into two, ordered by the score of the whole. Among the
splits of one piece the order is free: only the last join of the piece encoded alone can ever happen. Equal
scores of different pieces are ordered by id.
Source: Kudo and Richardson 2018, arXiv:1808.06226; llama.cpp for the order of joins.
"""

import numpy as np
from numpy.typing import NDArray

# Odd, so that it has an inverse modulo 2^64: any large odd number does.
_BASE = 0x9E3779B97F4A7C15
_TABLE_BITS = 21
_ROUND_LIMIT = 8

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


class _Hashes:
    """Polynomial hashes, modulo 2^64, of any part of the pieces laid end to end: [N] code points."""

    def __init__(self, codes: U64) -> None:
        inverse = pow(_BASE, -1, 1 << 64)
        powers = _powers(_BASE, len(codes))
        self._down = _powers(inverse, len(codes))
        self._sums = np.zeros(len(codes) + 1, np.uint64)
        np.cumsum(codes * powers[:-1], out=self._sums[1:])

    def of(self, start: I64, stop: I64) -> U64:
        """One hash for each part [start, stop)."""
        return (self._sums[stop] - self._sums[start]) * self._down[start]


def _powers(base: int, n: int) -> U64:
    powers = np.full(n + 1, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


class _Finder:
    """Finds keys by hash: a few direct-mapped tables, each for what did not fit in the ones before."""

    def __init__(self, keys: U64) -> None:
        self._keys = keys
        self._tables: list[tuple[int, NDArray[np.int32]]] = []
        left = np.arange(len(keys), dtype=np.int32)
        for round in range(_ROUND_LIMIT):
            if not len(left):
                break
            bits = max(_TABLE_BITS - 3 * round, 12)
            slots = self._slots(keys[left], bits, round)
            table = np.zeros(1 << bits, np.int32)
            table[slots] = left
            self._tables.append((bits, table))
            left = left[table[slots] != left]

    def find(self, queries: U64) -> tuple[I64, I64]:
        """Positions of the queries that are keys, in order, and the position of each one's key."""
        found = np.full(len(queries), -1, np.int64)
        for round, (bits, table) in enumerate(self._tables):
            candidates = table[self._slots(queries, bits, round)]
            hits = self._keys[candidates] == queries
            found[hits] = candidates[hits]
        positions = np.flatnonzero(found >= 0)
        return positions, found[positions]

    @staticmethod
    def _slots(hashes: U64, bits: int, round: int) -> U64:
        # Each round looks at other bits of the product, whose high bits depend on all of the hash.
        return (hashes * np.uint64(_BASE + 2 * round)) >> np.uint64(64 - bits)


def derive_merges(
    tokens: list[str], scores: NDArray[np.float32], usable: NDArray[np.bool_]
) -> list[tuple[str, str]]:
    """The merges of the vocabulary `tokens` [V], best first; only tokens that are `usable` [V] are pieces."""
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    stops = np.cumsum(lengths)
    starts = stops - lengths
    codes = np.frombuffer("".join(tokens).encode("utf-32-le"), np.uint32)
    hashes = _Hashes(codes.astype(np.uint64))
    pieces = np.flatnonzero(usable)
    finder = _Finder(hashes.of(starts[pieces], stops[pieces]))

    wholes = pieces[lengths[pieces] > 1]
    wholes = wholes[np.argsort(-scores[wholes], kind="stable")]
    n_splits = lengths[wholes] - 1
    owners = np.repeat(wholes, n_splits)
    first = np.repeat(np.cumsum(n_splits) - n_splits, n_splits)
    cuts = starts[owners] + 1 + np.arange(len(owners)) - first

    kept, left = finder.find(hashes.of(starts[owners], cuts))
    owners, cuts = owners[kept], cuts[kept]
    kept, right = finder.find(hashes.of(cuts, stops[owners]))
    left_ids, right_ids = pieces[left[kept]].tolist(), pieces[right].tolist()
    text = tokens.__getitem__
    return list(zip(map(text, left_ids), map(text, right_ids), strict=True))
