"""Files of log probabilities: llama-perplexity's read back, ck's own, and damaged ones."""

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ck.errors import ConflictError, MalformedError, ResourceError, UsageError
from ck.evaluate import base_file
from ck.evaluate.base_file import BaseFile, is_base_file, writing
from ck.evaluate.log_probs import compress, expand
from ck.evaluate.windows import n_scored
from tests.evaluate.recorded import DATA, N_CHUNKS, N_CTX

V = 272


def test_a_recorded_file_is_read() -> None:
    path = DATA / "base.dat"
    assert is_base_file(path)
    file = BaseFile(path)
    assert (file.n_vocab, file.ids.shape) == (V, (N_CHUNKS, N_CTX))
    # BOS begins the text, not the windows: they are kept as the text has them.
    assert file.ids[:, 0].tolist().count(1) == 1
    for n in (0, N_CHUNKS - 1):
        logs = expand(file.rows(n, slice(0, n_scored(N_CTX))))
        assert np.exp(logs.astype(np.float64)).sum(-1) == pytest.approx(1, abs=1e-3)
    assert np.array_equal(file.rows(1, slice(2, 5)), file.rows(1, slice(0, 7))[2:5])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n_vocab in (5, 6):
        path = tmp_path / "b.dat"
        ids = rng.integers(0, n_vocab, (2, 9)).astype(np.int32)
        rows = compress(rng.standard_normal((8, n_vocab)).astype(np.float32))
        with writing(path, ids, n_vocab) as writer:
            writer.add(rows[:3])
            writer.add(rows[3:])
        head = b"_logits_" + struct.pack("<3i", 9, n_vocab, 2) + ids.tobytes()
        assert path.read_bytes() == head + rows.tobytes()
        file = BaseFile(path)
        assert np.array_equal(file.ids, ids)
        assert np.array_equal(np.concatenate([file.rows(n, slice(0, 4)) for n in range(2)]), rows)
    assert [p.name for p in tmp_path.iterdir()] == ["b.dat"]


def test_a_block_that_fails_leaves_the_file_that_was(tmp_path: Path) -> None:
    path = tmp_path / "b.dat"
    path.write_bytes(before := b"_logits_ before")
    with pytest.raises(ZeroDivisionError), writing(path, np.zeros((1, 4), np.int32), 3):
        raise ZeroDivisionError
    assert (path.read_bytes(), [p.name for p in tmp_path.iterdir()]) == (before, ["b.dat"])


def test_a_file_of_another_kind_is_kept(tmp_path: Path) -> None:
    path, empty = tmp_path / "text", tmp_path / "empty"
    path.write_text("what was to be read")
    empty.touch()
    ids = np.zeros((1, 4), np.int32)
    with pytest.raises(ConflictError, match="must be new or hold log prob"), writing(path, ids, 3):
        pass
    assert path.read_text() == "what was to be read"
    with writing(empty, ids, 3):
        pass
    assert is_base_file(empty)


def test_no_room_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.zeros((100, 512), np.int32)
    usage = base_file.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(base_file.shutil, "disk_usage", lambda path: usage._replace(free=10**4 + 10))
    message = "b.dat: needs 2507 MB of disk, 10 kB are free; give fewer --chunks"
    with pytest.raises(ResourceError, match=message), writing(tmp_path / "b.dat", ids, 49152):
        pass
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none" / "b.dat", tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError, match="must be a plain file in a folder"), writing(path, ids, 9):
            pass
    assert (tmp_path / "pipe").is_fifo()


def put(offset: int, form: str, *values: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        made = struct.pack(form, *values)
        return data[:offset] + made + data[offset + len(made) :]

    return change


FIRST_ROW = 20 + 4 * N_CTX * N_CHUNKS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:19], "must begin with _logits_ and three sizes, it does not"),
        (lambda data: b"_Logits_" + data[8:], "must begin with _logits_ and three sizes, it does not"),
        (
            lambda data: data[:-1],
            "15 windows of 16 tokens, 272 in the vocabulary, take 58940 bytes, found 58939",
        ),
        (lambda data: data + b"\0", "take 58940 bytes, found 58941"),
        (
            put(8, "<i", 2),
            "needs windows of 3 tokens at least, a vocabulary of up to 16777216 and a window, found 2, ",
        ),
        (put(12, "<i", -5), "found 16, -5 and 15"),
        (put(16, "<i", 0), "found 16, 272 and 0"),
        (put(12, "<i", 2**24 + 1), "found 16, 16777217 and 15"),
        (put(8, "<3i", 2**31 - 1, 2**24, 2**31 - 1), "2147483647 windows of 2147483647 tokens, "),
        (put(20, "<i", 272), "token ids are 0 to 271, found .* to 272"),
        (put(20, "<i", -1), "token ids are 0 to 271, found -1 to"),
        (
            put(FIRST_ROW, "<f", np.nan),
            "every row needs a scale from 0 and a floor up to 0, window 1 has others",
        ),
        (put(FIRST_ROW, "<f", -1), "window 1 has others"),
        (put(FIRST_ROW + 4, "<f", 3), "window 1 has others"),
    ],
)
def test_a_damaged_file_is_one_line(change: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.dat"
    path.write_bytes(change((DATA / "base.dat").read_bytes()))
    with pytest.raises(MalformedError, match=re.escape(str(path)) + ": .*" + message):
        BaseFile(path).rows(0, slice(0, 7))
