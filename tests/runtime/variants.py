"""Feed one text to one model in several ways and print a digest of every row of logits: all must be equal.

    CK_ISA_MASK=scalar python tests/runtime/variants.py MODEL WAY...

A process of its own, because the instruction-set path is chosen when the runtime library is loaded. A WAY is
`threads:feed:length`, its feed one of
    512, 64, ...    scored in pieces of that many tokens
    decode          token by token, through the program for one token
    cached          half the text and ten other tokens, back to the half, the rest
    chunk-64        at once, in a program whose chunks hold 64
The output is one JSON object: digests of the rows, by way.
"""

import hashlib
import json
import sys
from collections.abc import Iterator

import numpy as np

import ck


def text(length: int, n_vocab: int) -> np.ndarray:
    """`length` token ids [T] i32 below `n_vocab`, the same in every process."""
    return np.random.default_rng(20).integers(3, n_vocab, length, dtype=np.int32)


def rows(path: str, way: str) -> Iterator[np.ndarray]:
    """The logits [V] at every position of the text, fed as `way` says."""
    threads, feed, length = way.split(":")
    chunk = int(feed.removeprefix("chunk-")) if feed.startswith("chunk-") else 512
    exe = ck.compile(path, context_len=2048, threads=int(threads), chunk=chunk).exe
    ids = text(int(length), exe.n_vocab)
    if feed == "decode":
        yield from (exe.decode(int(token)).copy() for token in ids)
    elif feed == "cached":
        half = len(ids) // 2
        yield from exe.score(ids[:half])
        exe.prefill(ids[half : half + 10] + 1)
        assert exe.rewind(half)
        yield from exe.score(ids[half:])
    else:
        size = len(ids) if feed.startswith("chunk-") else int(feed)
        for start in range(0, len(ids), size):
            yield from exe.score(ids[start : start + size])


def digests(path: str, way: str) -> list[str]:
    """A digest of each row's bits."""
    return [hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in rows(path, way)]


if __name__ == "__main__":
    print(json.dumps({way: digests(sys.argv[1], way) for way in sys.argv[2:]}))
