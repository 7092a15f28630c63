"""How llama.cpp encodes with a piece vocabulary, in the plainest code: what the tokenizer is judged by.

Symbols start as characters. The adjacent pair whose joined text is the piece with the highest score, the
leftmost among equals, is joined until no pair joins to a piece. Characters that are no piece become bytes.
"""

from itertools import pairwise


def encode(text: str, scores: dict[str, float]) -> list[str]:
    """The pieces of `text`, whose spaces are written U+2581 already."""
    symbols = list(text)
    while True:
        best = None
        for position, (left, right) in enumerate(pairwise(symbols)):
            score = scores.get(left + right)
            if score is not None and (best is None or score > best[0]):
                best = (score, position)
        if best is None:
            break
        position = best[1]
        symbols[position : position + 2] = [symbols[position] + symbols[position + 1]]
    pieces: list[str] = []
    for symbol in symbols:
        known = symbol in scores
        pieces += [symbol] if known else [f"<0x{byte:02X}>" for byte in symbol.encode()]
    return pieces
