"""The round-trip gate: every document, encoded and decoded, is the same bytes again."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ck.errors import GateError
from ck.frontend.gguf.cursor import shown
from ck.train.corpus import Document
from ck.train.model_tokenizer import DocumentTokenizer

_EXCERPT_CHARS = 24


@dataclass(frozen=True)
class Mismatch:
    """Where a document first departs from what its tokens decode to.

    line        of the file
    offset      bytes of the document's text before it
    expected    the text from there on, a few characters
    found       what the tokens decode to from there on
    """

    path: Path
    line: int
    offset: int
    expected: str
    found: str


@dataclass(frozen=True)
class RoundTrip:
    """What the gate saw; it passes when there is no mismatch."""

    n_documents: int
    n_bytes: int
    n_tokens: int
    n_mismatches: int
    first: Mismatch | None

    @property
    def bytes_per_token(self) -> float | None:
        """None when there are no tokens."""
        return self.n_bytes / self.n_tokens if self.n_tokens else None

    def require(self) -> None:
        """Raises GateError that names the first mismatch, when there is one."""
        if self.first is None:
            return
        at = f"{self.first.path}:{self.first.line}: byte {self.first.offset} of the document"
        rest = f" ({self.n_mismatches} of {self.n_documents} documents differ)"
        raise GateError(
            f"{at}: must be {shown(self.first.expected) or 'the end'} after encoding and decoding,"
            f" found {shown(self.first.found) or 'the end'}{rest}; train a tokenizer on this text"
        )


def round_trip(tokenizer: DocumentTokenizer, documents: Iterable[Document]) -> RoundTrip:
    """Encode and decode every document and compare."""
    n_documents = n_bytes = n_tokens = n_mismatches = 0
    first: Mismatch | None = None
    for document in documents:
        ids = tokenizer.encode(document.text)
        n_documents += 1
        n_bytes += len(document.text.encode())
        n_tokens += len(ids)
        decoded = tokenizer.decode(ids)
        if decoded != document.text:
            n_mismatches += 1
            first = first or _find_mismatch(document, decoded)
    return RoundTrip(n_documents, n_bytes, n_tokens, n_mismatches, first)


def _find_mismatch(document: Document, decoded: str) -> Mismatch:
    text = document.text
    pairs = enumerate(zip(text, decoded, strict=False))
    at = next((n for n, (one, other) in pairs if one != other), min(len(text), len(decoded)))
    return Mismatch(
        document.path,
        document.line_of(at),
        len(text[:at].encode()),
        text[at : at + _EXCERPT_CHARS],
        decoded[at : at + _EXCERPT_CHARS],
    )
