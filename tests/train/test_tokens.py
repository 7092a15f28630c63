"""Token shards: what is in them, when they are kept, and what an opener refuses."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ck.errors import GateError, MalformedError, UsageError
from ck.train.corpus import Document
from ck.train.shuffle import Purpose, shuffled
from ck.train.tokenizer_training import TrainingTokenizer, train_tokenizer
from ck.train.tokens import INDEX, TokenData, open_tokens, prepare_tokens

TEXTS = [f"document {n}: " + "words and words\n" * n for n in range(1, 31)]

# Seeds 42, its second epoch, its other purpose, and the largest seed: computed with numpy 2.4 on x86-64.
PINNED = [
    [0, 1, 7, 4, 6, 9, 3, 5, 2, 8],
    [2, 3, 8, 0, 5, 9, 1, 6, 4, 7],
    [6, 5, 1, 2, 8, 3, 7, 4, 0, 9],
    [5, 8, 0, 1, 3, 2, 7, 6, 9, 4],
]


def documents(*texts: str) -> list[Document]:
    return [Document(text, Path("x.txt"), n) for n, text in enumerate(texts, 1)]


@pytest.fixture(scope="module")
def tokenizer() -> TrainingTokenizer:
    return train_tokenizer(documents(*TEXTS), "bpe", 270, ["<tag>"])


def tokens_of(data: TokenData) -> tuple[list[int], list[int]]:
    return data.train.read(0, 1 << 30).tolist(), data.dev.read(0, 1 << 30).tolist()


def test_each_document_is_its_start_and_its_tokens(tokenizer: TrainingTokenizer, tmp_path: Path) -> None:
    data = prepare_tokens(documents(*TEXTS), tokenizer, tmp_path / "data", dev_fraction=0.1)
    assert (data.train.n_documents, data.dev.n_documents) == (27, 3)
    dev = sorted(shuffled(30, 42, Purpose.DEV_SPLIT)[:3].tolist())
    for stream, chosen in ((data.dev, dev), (data.train, [n for n in range(30) if n not in dev])):
        texts = [TEXTS[n] for n in chosen]
        ids = stream.read(0, stream.n_tokens)
        assert ids.tolist() == [id for text in texts for id in [0, *tokenizer.encode(text).tolist()]]
        assert stream.n_tokens == len(ids)
        assert stream.n_bytes == sum(len(text.encode()) for text in texts)
    other = prepare_tokens(documents(*TEXTS), tokenizer, tmp_path / "other", dev_fraction=0.1, seed=7)
    assert tokens_of(other) != tokens_of(data)
    assert sum(map(len, tokens_of(other))) == sum(map(len, tokens_of(data)))


def test_a_shuffle_is_the_same_everywhere() -> None:
    assert shuffled(10, 42, Purpose.WINDOWS).tolist() == PINNED[0]
    assert shuffled(10, 42, Purpose.WINDOWS, epoch=1).tolist() == PINNED[1]
    assert shuffled(10, 42, Purpose.DEV_SPLIT).tolist() == PINNED[2]
    assert shuffled(10, (1 << 64) - 1, Purpose.WINDOWS).tolist() == PINNED[3]
    assert sorted(shuffled(1000, 1, Purpose.WINDOWS).tolist()) == list(range(1000))
    assert shuffled(0, 1, Purpose.WINDOWS).tolist() == []
    for seed in (-1, 1 << 64):
        with pytest.raises(UsageError, match=rf"seed: must be 0 to 2\^64 - 1, found {seed}"):
            shuffled(3, seed, Purpose.WINDOWS)


@pytest.mark.parametrize(
    ("n_documents", "fraction", "n_dev"),
    [(2, 0.05, 1), (2, 0.99, 1), (3, 0.0, 0), (30, 0.5, 15), (1, 0.0, 0)],
)
def test_dev_and_train_both_get_documents(
    n_documents: int, fraction: float, n_dev: int, tokenizer: TrainingTokenizer, tmp_path: Path
) -> None:
    data = prepare_tokens(documents(*TEXTS[:n_documents]), tokenizer, tmp_path, dev_fraction=fraction)
    assert (data.train.n_documents, data.dev.n_documents) == (n_documents - n_dev, n_dev)


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("line one\n" * 19 + "the end\n", "line one\nthe end\n"),
        # The nearest line end, on either side.
        ("a" * 80 + "\n" + "b" * 19, "b" * 19),
        ("a" * 95 + "\n" + "b" * 4, "b" * 4),
        # One that is far away leaves either part nearly nothing.
        ("a\n" + "b" * 80 + " " + "c" * 17, " " + "c" * 17),
        ("a" * 100, "a" * 10),
        # What ends at the line end has no tail there.
        ("a" * 99 + "\n", "a" * 9 + "\n"),
    ],
)
def test_a_single_document_gives_its_tail(
    text: str, tail: str, tokenizer: TrainingTokenizer, tmp_path: Path
) -> None:
    data = prepare_tokens(documents(text), tokenizer, tmp_path, dev_fraction=0.1)
    train, dev = tokens_of(data)
    assert tokenizer.decode(dev) == "<|endoftext|>" + tail
    assert tokenizer.decode(train) == "<|endoftext|>" + text.removesuffix(tail)
    assert (data.train.n_bytes, data.dev.n_bytes) == (len(text) - len(tail), len(tail))


def test_a_single_character_is_all_train(tokenizer: TrainingTokenizer, tmp_path: Path) -> None:
    data = prepare_tokens(documents("a"), tokenizer, tmp_path)
    assert (data.train.n_tokens, data.dev.n_tokens) == (2, 0)


def test_shards_are_read_as_one_stream(tokenizer: TrainingTokenizer, tmp_path: Path) -> None:
    whole = prepare_tokens(documents(*TEXTS), tokenizer, tmp_path / "whole")
    cut = prepare_tokens(documents(*TEXTS), tokenizer, tmp_path / "cut", shard_tokens=100)
    assert tokens_of(cut) == tokens_of(whole)
    shards = cut.index["train"]["shards"]
    assert [shard["name"] for shard in shards[:2]] == ["train-00000.bin", "train-00001.bin"]
    assert {shard["n_tokens"] for shard in shards[:-1]} == {100}
    ids = whole.train.read(0, whole.train.n_tokens)
    for start in range(0, cut.train.n_tokens, 37):
        for stop in (start, start + 1, start + 150, start + 260):
            assert cut.train.read(start, stop).tolist() == ids[start:stop].tolist()


def test_large_vocabularies_take_four_bytes(tokenizer: TrainingTokenizer, tmp_path: Path) -> None:
    small = prepare_tokens(documents("ab"), tokenizer, tmp_path / "a", dev_fraction=0)
    assert (small.index["dtype"], (tmp_path / "a/train-00000.bin").stat().st_size) == (
        "uint16",
        2 * small.train.n_tokens,
    )
    raw = json.loads(tokenizer.json_text)
    raw["model"]["vocab"] |= {f"zz{n}": n for n in range(tokenizer.n_vocab, (1 << 16) + 1)}
    large = TrainingTokenizer(json.dumps(raw))
    wide = prepare_tokens(documents("ab"), large, tmp_path / "b", dev_fraction=0)
    assert (wide.index["dtype"], (tmp_path / "b/train-00000.bin").stat().st_size) == (
        "uint32",
        4 * wide.train.n_tokens,
    )
    assert tokens_of(wide) == tokens_of(small)


def stamps(directory: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in directory.iterdir()}


def test_shards_of_the_same_are_kept_and_others_made_anew(
    tokenizer: TrainingTokenizer, tmp_path: Path
) -> None:
    texts = documents(*TEXTS)
    prepare_tokens(texts, tokenizer, tmp_path, shard_tokens=100)
    first = stamps(tmp_path)
    moved = [Document(document.text, Path("elsewhere.txt"), 5) for document in texts]
    prepare_tokens(moved, tokenizer, tmp_path)
    assert stamps(tmp_path) == first
    other = train_tokenizer(texts, "bpe", 265)
    for text, used, seed in ((texts, other, 42), (texts[:-1], other, 42), (texts[:-1], other, 43)):
        before = (tmp_path / INDEX).read_text()
        data = prepare_tokens(text, used, tmp_path, seed=seed)
        assert (tmp_path / INDEX).read_text() != before
        assert data.train.n_documents + data.dev.n_documents == len(text)
        # Nothing of the earlier ones is left.
        assert sorted(stamps(tmp_path)) == ["dev-00000.bin", INDEX, "train-00000.bin"]


def test_damaged_shards_are_made_anew(tokenizer: TrainingTokenizer, tmp_path: Path) -> None:
    data = prepare_tokens(documents(*TEXTS), tokenizer, tmp_path)
    good = tokens_of(data)
    shard = tmp_path / "train-00000.bin"
    (tmp_path / ".new-1-train-00001.bin").write_bytes(b"left behind")
    for damage in (shard.read_bytes()[:-2], b"\1\0" + shard.read_bytes()[2:]):
        shard.write_bytes(damage)
        assert tokens_of(prepare_tokens(documents(*TEXTS), tokenizer, tmp_path)) == good
    (tmp_path / INDEX).write_text("{}")
    assert tokens_of(prepare_tokens(documents(*TEXTS), tokenizer, tmp_path)) == good
    assert sorted(stamps(tmp_path)) == ["dev-00000.bin", INDEX, "train-00000.bin"]


class Changing:
    """Documents that are others the second time."""

    def __init__(self) -> None:
        self.n_readings = 0

    def __iter__(self) -> Iterator[Document]:
        self.n_readings += 1
        return iter(documents(*TEXTS, f"reading {self.n_readings}"))


def test_what_cannot_be_encoded_leaves_no_index(tokenizer: TrainingTokenizer, tmp_path: Path) -> None:
    with pytest.raises(
        MalformedError, match="the data must stay as it is while it is read, it changed; try again"
    ):
        prepare_tokens(Changing(), tokenizer, tmp_path)
    raw = json.loads(tokenizer.json_text)
    raw["model"] |= {"vocab": {"<|endoftext|>": 0, "<tag>": 1, "a": 2}, "merges": []}
    partial = TrainingTokenizer(json.dumps(raw))
    words = (
        r"x.txt:2: the tokenizer must have tokens for all of the text, it has none for 4 bytes; run: ck tok"
    )
    with pytest.raises(GateError, match=words):
        prepare_tokens(documents("a<|endoftext|><tag>a", "aé b"), partial, tmp_path)
    assert list(tmp_path.iterdir()) == []
    for fraction in (-0.1, 1.0):
        with pytest.raises(UsageError, match="dev_fraction: must be at least 0 and less than 1"):
            prepare_tokens(documents("a"), tokenizer, tmp_path, fraction)


Change = Callable[[dict[str, Any]], object]
INDEX_DAMAGE: list[tuple[Change, str]] = [
    (lambda index: index.pop("dtype"), "must be an index of token shards"),
    (lambda index: index.update(dtype="float"), "must be an index of token shards"),
    (lambda index: index.update(train=3), "must be an index of token shards"),
    (lambda index: index["train"]["shards"][0].update(extra=1), "must be an index of token shards"),
    (lambda index: index["train"].update(n_tokens=3), "shards must have 3 tokens, found"),
    (lambda index: index["dev"]["shards"][0].update(n_tokens=3), "dev-00000.bin: must have 6 bytes, found"),
    (lambda index: index.update(format=2), "format must be 1, found 2"),
    (
        lambda index: index.update(tokenizer_sha256="abc"),
        "tokenizer must have SHA-256 [0-9a-f]{12}, found abc",
    ),
]


@pytest.mark.parametrize(("change", "words"), INDEX_DAMAGE)
def test_an_index_that_does_not_fit_is_refused(
    change: Change, words: str, tokenizer: TrainingTokenizer, tmp_path: Path
) -> None:
    index = dict(prepare_tokens(documents(*TEXTS), tokenizer, tmp_path).index)
    change(index)
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(MalformedError, match=words):
        open_tokens(tmp_path, tokenizer)


def test_an_opener_needs_all_files(tokenizer: TrainingTokenizer, tmp_path: Path) -> None:
    prepare_tokens(documents(*TEXTS), tokenizer, tmp_path)
    assert isinstance(np.asarray(open_tokens(tmp_path, tokenizer).train.read(0, 3)), np.ndarray)
    for name in ("dev-00000.bin", INDEX):
        os.unlink(tmp_path / name)
        with pytest.raises(
            UsageError, match=f"{name}: must be there, there is no such file; encode the data"
        ):
            open_tokens(tmp_path, tokenizer)
