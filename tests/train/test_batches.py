"""Batches: windows and targets, document starts, shuffles, cursors and bytes."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ck.errors import MalformedError, UsageError
from ck.train.batches import Batch, BatchStream, dev_batches, dev_bytes, target_bytes
from ck.train.corpus import Document
from ck.train.tokenizer_training import TrainingTokenizer, train_tokenizer
from ck.train.tokens import TokenData, TokenStream, prepare_tokens

TEXTS = [f"document {n}: " + "words é and words\n" * (n % 4) for n in range(1, 31)]


@pytest.fixture(scope="module")
def tokenizer() -> TrainingTokenizer:
    return train_tokenizer([Document(text, Path("x.txt"), 1) for text in TEXTS], "bpe", 270)


@pytest.fixture(scope="module")
def data(tokenizer: TrainingTokenizer, tmp_path_factory: pytest.TempPathFactory) -> TokenData:
    texts = [Document(text, Path("x.txt"), 1) for text in TEXTS]
    return prepare_tokens(
        texts, tokenizer, tmp_path_factory.mktemp("data"), dev_fraction=0.2, shard_tokens=100
    )


def of_ids(train: list[int], dev: list[int], tokenizer: TrainingTokenizer) -> TokenData:
    """Streams of given ids."""
    streams = [TokenStream([np.array(ids, np.uint16)], 1, len(ids)) for ids in (train, dev)]
    return TokenData(Path("data"), tokenizer, streams[0], streams[1], {})


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(vars(x).values(), vars(y).values(), strict=True)
    )


def test_windows_targets_positions_and_starts(tokenizer: TrainingTokenizer) -> None:
    # 0 starts a document; 12 targets make two windows of 5 and one of 2.
    ids = [0, 5, 6, 0, 7, 8, 9, 0, 0, 10, 11, 12, 13]
    found = list(dev_batches(of_ids([], ids, tokenizer), seq_len=5, batch=2))
    assert [batch.tokens.tolist() for batch in found] == [
        [[0, 5, 6, 0, 7], [8, 9, 0, 0, 10]],
        # The last token is a target alone; the rest of the window is padding.
        [[11, 12, 13, 0, 0]],
    ]
    assert [batch.targets.tolist() for batch in found] == [
        [[5, 6, 0, 7, 8], [9, 0, 0, 10, 11]],
        [[12, 13, -1, -1, -1]],
    ]
    assert [batch.positions.tolist() for batch in found] == [
        [[0, 1, 2, 0, 1], [0, 1, 0, 0, 1]],
        [[0, 1, 2, 0, 0]],
    ]
    assert [batch.starts.tolist() for batch in found] == [
        [[0, 0, 0, 3, 3], [5, 5, 7, 8, 8]],
        [[0, 0, 0, 3, 4]],
    ]
    assert [batch.n_targets for batch in found] == [10, 2]
    assert {array.dtype.name for batch in found for array in vars(batch).values()} == {"int32"}
    assert all(array.flags.c_contiguous for batch in found for array in vars(batch).values())


@given(
    ids=st.lists(st.sampled_from([0, 0, 5, 6, 7]), min_size=2, max_size=60),
    seq_len=st.integers(1, 20),
    n_batch=st.integers(1, 5),
)
def test_documents_never_reach_over_their_start(
    ids: list[int], seq_len: int, n_batch: int, tokenizer: TrainingTokenizer
) -> None:
    batches = list(dev_batches(of_ids([], ids, tokenizer), seq_len, n_batch))
    targets = [target for batch in batches for target in batch.targets.ravel().tolist() if target >= 0]
    assert targets == ids[1:]
    for batch in batches:
        starts, positions = batch.starts.ravel(), batch.positions.ravel()
        tokens, rows = batch.tokens.ravel(), np.arange(batch.tokens.size)
        assert np.array_equal(rows - starts, positions)
        assert (np.diff(starts) >= 0).all()
        for row in rows.tolist():
            assert starts[row] // seq_len == row // seq_len
            document = tokens[starts[row] : row + 1]
            assert not (document[1:] == 0).any()
            assert document[0] == 0 or starts[row] % seq_len == 0


def test_an_epoch_gives_every_target_once_in_an_order_of_its_own(data: TokenData) -> None:
    stream = BatchStream(data, seq_len=16, batch=1, seed=3)
    whole = data.train.read(0, data.train.n_tokens)
    in_order = [tuple(whole[first : first + 16].tolist()) for first in range(0, data.train.n_tokens - 1, 16)]
    epochs = [[tuple(batch.tokens[0].tolist()) for batch in stream.next(stream.n_windows)] for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch)[: len(epoch)] == sorted((*w, *[0] * (16 - len(w))) for w in in_order)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert stream.cursor == {"epoch": 3, "index": 0}
    assert stream.epochs == 3
    again = BatchStream(data, seq_len=16, batch=1, seed=3)
    assert [tuple(b.tokens[0].tolist()) for b in again.next(again.n_windows)] == epochs[0]
    other = BatchStream(data, seq_len=16, batch=1, seed=4)
    assert [tuple(b.tokens[0].tolist()) for b in other.next(other.n_windows)] != epochs[0]


def test_batches_are_full_and_go_over_the_end_of_an_epoch(data: TokenData) -> None:
    one, five = BatchStream(data, 16, 1, seed=3), BatchStream(data, 16, 5, seed=3)
    singles = one.next(5 * (one.n_windows // 5 + 3))
    together = [batch for k in (1, 2, one.n_windows // 5) for batch in five.next(k)]
    assert five.cursor["epoch"] == 1
    assert all(batch.tokens.shape == (5, 16) for batch in together)
    rows = [row.tolist() for batch in together for row in batch.tokens]
    assert rows == [batch.tokens[0].tolist() for batch in singles]
    assert one.cursor == five.cursor


@settings(max_examples=30)
@given(n_before=st.integers(0, 60), n_after=st.integers(1, 20), n_batch=st.integers(1, 7))
def test_a_resumed_stream_goes_on_as_the_straight_one(
    n_before: int, n_after: int, n_batch: int, data: TokenData
) -> None:
    straight = BatchStream(data, 16, n_batch, seed=9)
    before = straight.next(n_before)
    resumed = BatchStream(data, 16, n_batch, seed=9, cursor=straight.cursor)
    assert (resumed.tokens_seen, resumed.epochs) == (straight.tokens_seen, straight.epochs)
    assert straight.tokens_seen == sum(batch.n_targets for batch in before)
    assert same(straight.next(n_after), resumed.next(n_after))
    assert straight.cursor == resumed.cursor


def test_dev_bytes_are_those_of_the_text(data: TokenData) -> None:
    for seq_len, n_batch in itertools.product((1, 7, 64), (1, 3)):
        batches = list(dev_batches(data, seq_len, n_batch))
        assert sum(target_bytes(data, batch) for batch in batches) == dev_bytes(data)
        assert sum(batch.n_targets for batch in batches) == data.dev.n_tokens - 1
    train_bytes = sum(
        target_bytes(data, batch) for batch in BatchStream(data, 16, 1, 0).next(data.train.n_tokens // 16)
    )
    assert 0 < train_bytes <= data.train.n_bytes
    assert data.train.n_bytes + dev_bytes(data) == sum(len(text.encode()) for text in TEXTS)


def test_the_first_dev_windows_alone(data: TokenData) -> None:
    whole = list(dev_batches(data, 8, 1))
    assert same(list(dev_batches(data, 8, 1, limit=2)), whole[:2])
    assert [batch.tokens.shape for batch in dev_batches(data, 8, 2, limit=3)] == [(2, 8), (1, 8)]


def test_data_that_is_too_short_or_holds_no_ids(data: TokenData, tokenizer: TrainingTokenizer) -> None:
    n = data.train.n_tokens
    assert BatchStream(data, n - 1, 1, 0).next()[0].n_targets == n - 1
    with pytest.raises(
        MalformedError, match=f"training needs at least {n + 1} tokens for a window of {n}, found {n};"
    ):
        BatchStream(data, n, 1, 0)
    assert list(dev_batches(of_ids([0, 1], [], tokenizer), 4, 1)) == []
    assert list(dev_batches(of_ids([0, 1], [0], tokenizer), 4, 1)) == []
    with pytest.raises(
        MalformedError, match=r"^data: token ids must be 0 to 269, found 0 to 270; encode the data"
    ):
        BatchStream(of_ids([0, 270, 1], [], tokenizer), 2, 1, 0).next()


@pytest.mark.parametrize("cursor", [{"epoch": -1, "index": 0}, {"epoch": 0, "index": 10**6}, {"epoch": 1}])
def test_a_cursor_that_is_not_of_this_data(cursor: dict[str, int], data: TokenData) -> None:
    with pytest.raises(UsageError, match="data cursor: epoch must be at least 0 and index 0 to"):
        BatchStream(data, 16, 1, 0, cursor)


def test_sizes_are_at_least_one(data: TokenData) -> None:
    with pytest.raises(UsageError, match="seq_len and batch: must be at least 1, found 0 and 1"):
        BatchStream(data, 0, 1, 0)
    with pytest.raises(UsageError, match="found 4 and 0"):
        next(dev_batches(data, 4, 0))
