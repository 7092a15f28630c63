"""State files: a conversation goes on with the same bits, and a file that is not right changes nothing."""

import hashlib
import json
import os
import stat
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import CkError, MalformedError, UnsupportedError, UsageError
from ck.frontend.model import open_file
from ck.ir.rt.slots import CacheSlot
from ck.runtime.chat_state import StateKeeper, fingerprint
from ck.runtime.executable import Saved
from ck.runtime.model import Model
from ck.runtime.samplers.params import SamplingParams
from ck.runtime.sampling import Sampler
from ck.runtime.state_file import ChatState, StateIdentity, read_state, write_state
from tests.frontend.make_gguf import write_tiny

N_CTX, N_VOCAB = 192, 230
# A cache of every position, a ring of 64, a recurrent state. Keys and values are two planes a head.
SLOTS = (
    CacheSlot("k", "kv", (2, N_CTX, 4), "f16", 4 * N_CTX * 8),
    CacheSlot("ring", "kv", (2, 64, 4), "f32", 4 * 64 * 16),
    CacheSlot("s", "state", (3, 5), "f32", 60),
)
IDENTITY = StateIdentity("ab" * 32, "tiny", {"context_len": N_CTX, "kv": "f16", "dtype": None}, SLOTS)
TURNS = [
    {"role": "user", "content": "Where?"},
    {"role": "assistant", "content": "P\u00e4ris", "reasoning_content": "hm"},
]


def state(n: int = 6, high: int = 9) -> ChatState:
    draw = np.random.default_rng(n)
    caches = tuple(draw.integers(0, 256, slot.n_bytes).astype(np.uint8) for slot in SLOTS)
    return ChatState(list(range(n)), Saved(n, high, caches), "Be brief", TURNS, "Where?")


def read(path: Path, identity: StateIdentity = IDENTITY) -> ChatState:
    return read_state(path, identity, N_CTX, N_VOCAB)


def used(slot: CacheSlot, raw: Any, high: int) -> Any:
    """What has been computed: all of a state; of keys and values the blocks up to `high`."""
    if slot.kind == "state":
        return raw
    return raw.reshape(4, slot.shape[1] // 64, -1)[:, : -(-high // 64)]


@pytest.mark.parametrize(
    ("n", "high"), [(6, 9), (1, 1), (0, 0), (N_CTX, N_CTX), (64, 64), (60, 65), (130, 190)]
)
def test_what_is_written_is_read(tmp_path: Path, n: int, high: int) -> None:
    path, wanted = tmp_path / "talk.state", state(n, high)
    n_bytes = write_state(path, IDENTITY, wanted)
    found = read(path)
    assert n_bytes == path.stat().st_size
    assert (found.tokens, found.turns, found.system, found.asked) == (
        list(range(n)),
        TURNS,
        "Be brief",
        "Where?",
    )
    assert (found.saved.pos, found.saved.high) == (n, high)
    for slot, ours, theirs in zip(SLOTS, found.saved.caches, wanted.saved.caches, strict=True):
        assert len(ours) == slot.n_bytes
        np.testing.assert_array_equal(used(slot, ours, high), used(slot, theirs, high))


def test_only_blocks_in_use_are_written_and_only_for_the_owner(tmp_path: Path) -> None:
    short = write_state(tmp_path / "short", IDENTITY, state(1, 1))
    # Two blocks more of the first cache alone: the others are whole. And the JSON of 191 tokens more.
    longer = len(json.dumps(list(range(N_CTX)))) - len("[0]") + len("192") - len("1")
    assert write_state(tmp_path / "long", IDENTITY, state(N_CTX, N_CTX)) == short + 4 * 128 * 8 + longer
    assert stat.S_IMODE((tmp_path / "short").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long", "short"]


def test_any_flipped_byte_and_any_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "talk.state"
    write_state(path, IDENTITY, state())
    whole = path.read_bytes()
    for at in [*range(60), *range(60, len(whole), 97)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with pytest.raises((MalformedError, UnsupportedError)):
            read(path)
    for end in [*range(60), *range(60, len(whole), 131)]:
        path.write_bytes(whole[:end])
        with pytest.raises(MalformedError):
            read(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(MalformedError, match="is damaged"):
        read(path)


def forged(path: Path, changes: dict[str, Any], data: bytes | None = None, version: int = 1) -> Path:
    """A file whose digest fits what it holds."""
    write_state(path, IDENTITY, state())
    whole = path.read_bytes()
    n_text = struct.unpack_from("<Q", whole, 12)[0]
    fields = {**json.loads(whole[52 : 52 + n_text]), **changes}
    text = json.dumps(changes.get("", fields)).encode()
    body = text + (whole[52 + n_text :] if data is None else data)
    head = struct.pack("<8sIQ32s", b"ck-state", version, len(text), hashlib.sha256(body).digest())
    path.write_bytes(head + body)
    return path


FORGED: list[tuple[dict[str, Any], type[CkError], str]] = [
    ({"tokens": None}, MalformedError, "tokens must be ids of the model"),
    ({"tokens": [1, 999]}, MalformedError, "tokens must be ids of the model"),
    ({"tokens": [1, -1]}, MalformedError, "tokens must be ids"),
    ({"tokens": [True]}, MalformedError, "tokens must be ids"),
    ({"tokens": [1.0]}, MalformedError, "tokens must be ids"),
    ({"tokens": [1] * 10}, MalformedError, "tokens must be ids of the model, at most 192"),
    ({"high": 193}, MalformedError, "tokens must be ids of the model, at most 192"),
    ({"high": -1, "tokens": []}, MalformedError, "tokens must be ids"),
    ({"high": "9"}, MalformedError, "tokens must be ids"),
    ({"high": 80}, MalformedError, "caches must have"),
    ({"turns": None}, MalformedError, "turns must be messages"),
    ({"turns": ["hi"]}, MalformedError, "turns must be messages"),
    ({"turns": [{"role": "user"}]}, MalformedError, "turns must be messages"),
    ({"turns": [{"role": "user", "content": 3}]}, MalformedError, "turns must be messages"),
    ({"system": 3}, MalformedError, "turns must be messages"),
    ({"asked": []}, MalformedError, "turns must be messages"),
    ({"": [1, 2]}, MalformedError, "must hold a JSON object"),
    (
        {"model": "cd" * 32, "name": "other"},
        UsageError,
        "must be of the model that runs, tiny, it is of 'other'",
    ),
    ({"model": None}, UsageError, "must be of the model that runs"),
    (
        {"options": {"context_len": 64, "kv": "f32"}},
        UsageError,
        "it is of one with -c 64 --kv f32 and 3 caches",
    ),
    ({"options": {"kv": "\x1b[2J"}}, UsageError, "it is of one with --kv ?[2J and 3 caches"),
    (
        {"options": {**IDENTITY.options, "activations": "q8"}},
        UsageError,
        "with -c 192 --kv f16 and 3 caches, it is of one with -c 192 --kv f16 --activations q8 and 3 caches",
    ),
    ({"options": None}, UsageError, "it is of one with no options"),
    ({"caches": []}, UsageError, "must be of a program with -c 192 --kv f16 and 3 caches, it is of one"),
]


@pytest.mark.parametrize(("changes", "kind", "words"), FORGED, ids=str)
def test_a_forged_file_is_refused(
    tmp_path: Path, changes: dict[str, Any], kind: type[CkError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        read(forged(tmp_path / "f", changes))
    assert words in str(caught.value)
    assert str(caught.value).startswith("f: ")
    assert "\n" not in str(caught.value)


def test_other_versions_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="must be a state file of version 1, found 2"):
        read(forged(tmp_path / "f", {}, version=2))
    with pytest.raises(MalformedError, match="caches must have 6204 bytes, found 1"):
        read(forged(tmp_path / "f", {}, b"x"))
    for text in (b"", b"GGUF", b"ck-stat"):
        (tmp_path / "g").write_bytes(text)
        with pytest.raises(MalformedError, match="must be a state file of ck, found something else"):
            read(tmp_path / "g")
    with pytest.raises(UsageError, match="must be a file that can be read, No such file"):
        read(tmp_path / "missing")
    with pytest.raises(UsageError, match="must be a file that can be read, Is a directory"):
        read(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "talk.state"
    write_state(path, IDENTITY, state())
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        CkError, match=r"talk.state: must be a file that can be written, No space left"
    ) as caught:
        write_state(path, IDENTITY, state(3, 3))
    assert caught.value.exit_code == 8
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UsageError, match="x: must be a file that can be written, No such file"):
        write_state(tmp_path / "no" / "x", IDENTITY, state())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return ck.compile(
        write_tiny(tmp_path_factory.mktemp("state") / "tiny.gguf", pairs=True), context_len=128, chunk=16
    )


def test_a_conversation_goes_on_with_the_same_bits(model: Model, tmp_path: Path) -> None:
    def sampler() -> Sampler:
        return Sampler(SamplingParams(seed=3, ignore_eos=True), model.tokenizer)

    talk = model.conversation("ab")
    talk.answer("abc", sampler(), 8)
    said = model.keeper.save(talk, tmp_path / "talk.state")
    n_fed, turns = len(talk.session.fed), list(talk.turns)
    assert said.startswith(f"saved 2 messages, {n_fed} tokens of context, 17 kB, to talk.state")
    straight = [piece.token for piece in talk.reply("cab", sampler(), 8)]
    cached = talk.session.stats.n_cached
    logits = model.exe.decode(5).copy()

    later = model.conversation()
    assert later.session.fed == []
    assert model.keeper.load(later, tmp_path / "talk.state").startswith("loaded 2 messages")
    assert (later.turns, later.system, later.asked) == (turns, "ab", "abc")
    assert [piece.token for piece in later.reply("cab", sampler(), 8)] == straight
    assert later.session.stats.n_cached == cached > 10
    np.testing.assert_array_equal(model.exe.decode(5), logits)


def test_a_model_of_other_weights_is_another_model(tmp_path: Path) -> None:
    first, second = write_tiny(tmp_path / "a.gguf"), write_tiny(tmp_path / "b.gguf")
    assert fingerprint(open_file(first)) == fingerprint(open_file(second))
    data = bytearray(second.read_bytes())
    data[-1] ^= 1
    second.write_bytes(data)
    assert open_file(first).header_digest() == open_file(second).header_digest()
    assert fingerprint(open_file(first)) != fingerprint(open_file(second))


def test_a_refused_file_changes_nothing(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "talk.state"
    talk = model.conversation()
    talk.answer("abc", Sampler(SamplingParams(temp=0, ignore_eos=True), model.tokenizer), 8)
    model.keeper.save(talk, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    fed, turns, caches = talk.session.fed, list(talk.turns), model.exe.save().caches
    with pytest.raises(MalformedError):
        model.keeper.load(talk, path)
    identity = replace(model.keeper.identity, options={"context_len": 64})
    keeper = StateKeeper(model.exe, lambda: identity)
    path.write_bytes(whole)
    with pytest.raises(UsageError, match="run the model with the options it was saved with"):
        keeper.load(talk, path)
    assert (talk.session.fed, talk.turns) == (fed, turns)
    for before, after in zip(caches, model.exe.save().caches, strict=True):
        np.testing.assert_array_equal(before, after)
    raw = model.conversation()
    raw.template = None
    with pytest.raises(UsageError, match="must be of raw text"):
        model.keeper.load(raw, path)
