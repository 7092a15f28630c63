"""Token shards: a corpus as ids on disk, encoded once, memory mapped by training.

    <directory>/train-00000.bin  dev-00000.bin  ...    ids end to end, uint16 or uint32, little-endian
    <directory>/index.json                             counts, hashes, what they were made from; written last

Every document is <|endoftext|> and its tokens. Which documents are for dev is decided by the seed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ck.errors import GateError, MalformedError, UsageError
from ck.train.corpus import CorpusDigest, CorpusFacts, Document
from ck.train.files import UNFINISHED, replacing
from ck.train.model_tokenizer import DocumentTokenizer
from ck.train.shuffle import Purpose, shuffled
from ck.train.tokenizer_training import END_OF_TEXT

FORMAT = 1
INDEX = "index.json"
SHARD_TOKENS = 1 << 27
SPLITS = ("train", "dev")

SplitName = Literal["train", "dev"]
_MADE_HERE = re.compile(rf"({re.escape(UNFINISHED)}.*)?(train|dev)-\d{{5}}\.bin")
_AGAIN = "encode the data again"


@dataclass(frozen=True)
class Shard:
    """One file of ids."""

    name: str
    n_tokens: int
    sha256: str


class TokenStream:
    """The tokens of one split, end to end.

    n_tokens     <|endoftext|> before each document included
    n_bytes      text that the tokens stand for; <|endoftext|> stands for none
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], n_documents: int, n_bytes: int) -> None:
        self.n_documents = n_documents
        self.n_bytes = n_bytes
        self._arrays = arrays
        self._ends = np.cumsum([len(array) for array in arrays], dtype=np.int64)
        self.n_tokens = int(self._ends[-1]) if arrays else 0

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """Tokens [start, stop), those that there are."""
        parts = [np.empty(0, np.int32)]
        for array, end in zip(self._arrays, self._ends.tolist(), strict=True):
            first = end - len(array)
            if first < stop and start < end:
                parts.append(array[max(start - first, 0) : stop - first].astype(np.int32))
        return np.concatenate(parts)


@dataclass(frozen=True)
class TokenData:
    """The token shards of a directory, opened."""

    directory: Path
    tokenizer: DocumentTokenizer
    train: TokenStream
    dev: TokenStream
    index: Mapping[str, Any]


def prepare_tokens(
    documents: Iterable[Document],
    tokenizer: DocumentTokenizer,
    directory: Path,
    dev_fraction: float = 0.05,
    seed: int = 42,
    shard_tokens: int = SHARD_TOKENS,
) -> TokenData:
    """Encode `documents`, iterated twice, into `directory`, unless what is there was made from the same.

    `dev_fraction` of the documents, at least one, are dev and at least one is train; of a single document the
    tail from a line end on is dev; 0 means no dev. Raises UsageError for a fraction outside [0, 1),
    GateError when the tokenizer has no tokens for some of the text, MalformedError when the documents changed
    from one reading to the next, and what reading them raises.
    """
    if not 0 <= dev_fraction < 1:
        raise UsageError(f"dev_fraction: must be at least 0 and less than 1, found {dev_fraction}")
    facts = _digest(documents)
    origin = {
        "format": FORMAT,
        "tokenizer_sha256": tokenizer.sha256,
        "corpus_sha256": facts.sha256,
        "dev_fraction": dev_fraction,
        "seed": seed,
    }
    if (kept := _reuse(directory, tokenizer, origin)) is not None:
        return kept
    directory.mkdir(parents=True, exist_ok=True)
    # While the shards change there is no index, so nobody takes the old one for theirs.
    for file in directory.iterdir():
        if file.name == INDEX or _MADE_HERE.fullmatch(file.name):
            file.unlink()
    splits = _encode(documents, facts, tokenizer, directory, dev_fraction, seed, shard_tokens)
    index = {**origin, "n_vocab": tokenizer.n_vocab, "dtype": _dtype(tokenizer).name, **splits}
    with replacing(directory / INDEX) as file:
        file.write((json.dumps(index, indent=2) + "\n").encode())
    return open_tokens(directory, tokenizer)


def _digest(documents: Iterable[Document]) -> CorpusFacts:
    digest = CorpusDigest()
    for document in documents:
        digest.add(document)
    return digest.facts()


def _reuse(directory: Path, tokenizer: DocumentTokenizer, origin: dict[str, Any]) -> TokenData | None:
    try:
        data = open_tokens(directory, tokenizer)
    except (UsageError, MalformedError):
        return None
    if any(data.index.get(key) != value for key, value in origin.items()):
        return None
    shards = [Shard(**shard) for split in SPLITS for shard in data.index[split]["shards"]]
    intact = all(_file_sha256(directory / shard.name) == shard.sha256 for shard in shards)
    return data if intact else None


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dtype(tokenizer: DocumentTokenizer) -> np.dtype[Any]:
    return np.dtype("<u2" if tokenizer.n_vocab <= 1 << 16 else "<u4")


class _ShardWriter:
    """Writes one split's shards; a shard takes its name when it is complete."""

    def __init__(self, directory: Path, split: str, dtype: np.dtype[Any], limit: int) -> None:
        self._directory, self._split = directory, split
        self._dtype, self._limit = dtype, limit
        self._stack = ExitStack()
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._n = 0
        self.shards: list[Shard] = []
        self.n_documents = self.n_bytes = self.n_tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish_shard()
        self._stack.__exit__(kind, error, trace)

    def add(self, ids: NDArray[np.int32], n_bytes: int) -> None:
        """One more document, that stands for `n_bytes` of text."""
        self.n_documents += 1
        self.n_bytes += n_bytes
        self.n_tokens += len(ids)
        while len(ids):
            if self._file is None:
                self._file = self._stack.enter_context(replacing(self._directory / self._name()))
            part, ids = np.split(ids, [self._limit - self._n])
            data = part.astype(self._dtype).tobytes()
            self._file.write(data)
            self._hash.update(data)
            self._n += len(part)
            if self._n == self._limit:
                self._finish_shard()

    def _name(self) -> str:
        return f"{self._split}-{len(self.shards):05}.bin"

    def _finish_shard(self) -> None:
        if self._file is None:
            return
        self._stack.close()
        self.shards.append(Shard(self._name(), self._n, self._hash.hexdigest()))
        self._file, self._hash, self._n = None, hashlib.sha256(), 0

    def record(self) -> dict[str, Any]:
        """The split's part of the index."""
        counts = {"n_documents": self.n_documents, "n_tokens": self.n_tokens, "n_bytes": self.n_bytes}
        return {**counts, "shards": [asdict(shard) for shard in self.shards]}


def _encode(
    documents: Iterable[Document],
    facts: CorpusFacts,
    tokenizer: DocumentTokenizer,
    directory: Path,
    dev_fraction: float,
    seed: int,
    shard_tokens: int,
) -> dict[str, Any]:
    """The index's parts `train` and `dev`, their shards written."""
    for_dev = _choose_dev(facts.n_documents, dev_fraction, seed)
    cut_one = facts.n_documents == 1 and dev_fraction > 0
    dtype, digest = _dtype(tokenizer), CorpusDigest()
    with (
        _ShardWriter(directory, "train", dtype, shard_tokens) as train,
        _ShardWriter(directory, "dev", dtype, shard_tokens) as dev,
    ):
        for number, document in enumerate(documents):
            digest.add(document)
            cut = _dev_start(document.text, dev_fraction) if cut_one else len(document.text)
            parts = [(dev if number in for_dev else train, document.text[:cut])]
            if cut < len(document.text):
                parts.append((dev, document.text[cut:]))
            for writer, text in parts:
                writer.add(*_encode_text(text, document, tokenizer))
        if digest.facts() != facts:
            raise MalformedError(
                f"{directory}: the data must stay as it is while it is read, it changed; try again"
            )
    return {"train": train.record(), "dev": dev.record()}


def _choose_dev(n_documents: int, dev_fraction: float, seed: int) -> set[int]:
    if n_documents < 2 or dev_fraction == 0:
        return set()
    n_dev = min(max(round(dev_fraction * n_documents), 1), n_documents - 1)
    return set(shuffled(n_documents, seed, Purpose.DEV_SPLIT)[:n_dev].tolist())


def _dev_start(text: str, dev_fraction: float) -> int:
    """Where the dev part of a single text starts: behind the nearest line end, else before a space."""
    target = max(int(len(text) * (1 - dev_fraction)), 1)
    # Never so far away that either part gets lost.
    reach = min(target, len(text) - target)
    line_ends = [text.rfind("\n", 0, target) + 1, text.find("\n", target) + 1]
    near = [place for place in line_ends if 0 < place < len(text) and abs(place - target) < reach]
    space = text.rfind(" ", target - reach, target)
    return min(near, key=lambda place: abs(place - target), default=space if space > 0 else target)


def _encode_text(
    text: str, document: Document, tokenizer: DocumentTokenizer
) -> tuple[NDArray[np.int32], int]:
    ids = tokenizer.encode(text)
    if not tokenizer.is_exact:
        # A model's own tokenizer may change a text: what it stands for is the text.
        return np.concatenate([np.array([tokenizer.end_id], np.int32), ids]), len(text.encode())
    n_bytes = int(tokenizer.token_bytes[ids].sum())
    n_spelled = n_bytes + len(END_OF_TEXT) * int(np.count_nonzero(ids == tokenizer.end_id))
    n_lost = len(text.encode()) - n_spelled
    if n_lost:
        raise GateError(
            f"{document.path}:{document.line}: the tokenizer must have tokens for all of the text, it has"
            f" none for {n_lost} bytes; run: ck tokenizer roundtrip"
        )
    return np.concatenate([np.array([tokenizer.end_id], np.int32), ids]), n_bytes


def open_tokens(directory: Path, tokenizer: DocumentTokenizer) -> TokenData:
    """The shards of `directory`, which `tokenizer` made. Sizes are checked, hashes are not.

    Raises UsageError when there are none, MalformedError when index and shards do not fit together or another
    tokenizer made them.
    """
    path = directory / INDEX
    try:
        index = json.loads(path.read_bytes())
        dtype = np.dtype({"uint16": "<u2", "uint32": "<u4"}[index["dtype"]])
        train, dev = (_open_split(directory, index[split], dtype) for split in SPLITS)
        found, n_vocab, version = index["tokenizer_sha256"], index["n_vocab"], index["format"]
    except FileNotFoundError as error:
        raise UsageError(f"{error.filename}: must be there, there is no such file; {_AGAIN}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedError(
            f"{path}: must be an index of token shards, {error!r} stands against it"
        ) from None
    if version != FORMAT:
        raise MalformedError(f"{path}: format must be {FORMAT}, found {version}; {_AGAIN}")
    if found != tokenizer.sha256 or n_vocab != tokenizer.n_vocab:
        raise MalformedError(
            f"{path}: tokenizer must have SHA-256 {tokenizer.sha256[:12]}, found {str(found)[:12]}; {_AGAIN}"
        )
    return TokenData(directory, tokenizer, train, dev, index)


def _open_split(directory: Path, record: Mapping[str, Any], dtype: np.dtype[Any]) -> TokenStream:
    arrays = list[NDArray[Any]]()
    for fields in record["shards"]:
        shard = Shard(**fields)
        file = directory / Path(shard.name).name
        needed, n_bytes = shard.n_tokens * dtype.itemsize, file.stat().st_size
        if n_bytes != needed:
            raise MalformedError(f"{file}: must have {needed} bytes, found {n_bytes}; {_AGAIN}")
        arrays.append(np.memmap(file, dtype, "r"))
    stream = TokenStream(arrays, record["n_documents"], record["n_bytes"])
    if stream.n_tokens != record["n_tokens"]:
        raise MalformedError(
            f"{directory}: shards must have {record['n_tokens']} tokens, found {stream.n_tokens}; {_AGAIN}"
        )
    return stream
