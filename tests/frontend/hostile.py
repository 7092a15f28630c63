"""Edits of a model file that hypothesis draws and shrinks: of its bytes, and of its parts to values of note.

An edit is a name and arguments, so that a failing list of them can be read and replayed with `edited`.
"""

import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.frontend.raw_gguf import ARRAY, F32, F64, SIZES, STRING, RawFile, text, texts, u32, u64

Edit = tuple[str, tuple[Any, ...]]

FAMILIES = ("llama", "gemma3", "qwen2", "qwen3", "qwen35", "smollm3", "nanbeige")
NUMBERS = (
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count",
    "attention.key_length", "attention.value_length", "attention.sliding_window",
    "attention.sliding_window_pattern", "rope.scaling.type", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
    "rope.scaling.attn_factor", "rope.freq_base_swa", "nextn_predict_layers", "final_logit_softcapping",
    "expert_count", "ssm.time_step_rank", "ssm.group_count", "ssm.inner_size", "ssm.state_size",
    "ssm.conv_kernel", "attention.recurrent_layers", "full_attention_interval", "rope.scale_linear",
)  # fmt: skip
OTHERS = (
    "general.name", "general.license", "general.file_type", "general.size_label", "general.alignment",
    "split.no", "split.count", "split.tensors.count", "general.sampling.temp", "general.sampling.top_k",
    "general.sampling.sequence", "tokenizer.chat_template",
    *(f"tokenizer.ggml.{name}" for name in (
        "model", "pre", "tokens", "token_type", "scores", "merges", "bos_token_id", "eos_token_id",
        "unknown_token_id", "eot_token_id", "add_bos_token", "add_eos_token", "add_space_prefix",
    )),
)  # fmt: skip
WORDS = (
    "", "a", " ", "\u2581", "\u2581" * 50, "<0x41>", "<0xZZ>", "\0", "\n", "\u00e9", "\ud7ff", "<s>",
    "x" * 3000, "\u0120a", "\U0001f600", "<|im_end|>", "</s>", "a b", " a", "\ufdd0", "none", "linear",
    "yarn", "gpt2", "gemma4", "default", "smollm", "llama-bpe", "deepseek-llm", "viking", "{{", "qwen3",
)  # fmt: skip
_INTEGERS = (
    0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 31, 32, 64, 127, 128, 255, 256, 271, 272, 273, 4096, 65535, 65536, 2**24,
    2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
_FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-30, 1e30, 3.4e38, float("inf"), float("nan"), 1e-5, 1e4, 1.0000001,
    4.0,
)  # fmt: skip
_TENSORS = (
    b"rope_freqs.weight", b"blk.0.attn_q_norm.weight", b"blk.99999999999.x", b"blk.1.ssm_a",
    b"blk.0.attn_q.bias",
)  # fmt: skip

_integers, _words = st.sampled_from(_INTEGERS), st.sampled_from(WORDS)
_places = st.integers(0, 1 << 16)


def _scalar(kind: int, value: int) -> tuple[int, bytes]:
    return kind, (value % (1 << 8 * SIZES[kind])).to_bytes(SIZES[kind], "little")


def _numbers(kind: int, values: list[int]) -> tuple[int, bytes]:
    return ARRAY, u32(kind) + u64(len(values)) + b"".join(_scalar(kind, value)[1] for value in values)


_values = st.one_of(
    st.builds(_scalar, st.sampled_from([0, 1, 2, 3, 4, 5, 7, 10, 11]), _integers),
    st.sampled_from(_FLOATS).map(lambda value: (F32, struct.pack("<f", value))),
    st.sampled_from((*_FLOATS, 1e-320, 1e308)).map(lambda value: (F64, struct.pack("<d", value))),
    _words.map(lambda word: (STRING, text(word))),
    st.builds(_numbers, st.sampled_from([4, 5, 6, 7]), st.lists(_integers, max_size=5)),
    st.lists(_words, max_size=5).map(lambda words: (ARRAY, texts(words))),
)
_of_tensors = st.one_of(
    st.tuples(st.just("dims"), st.lists(_integers, max_size=5)),
    st.tuples(st.just("kind"), st.one_of(st.integers(0, 45), _integers.filter(lambda n: n < 2**32))),
    st.tuples(st.just("offset"), _integers),
    st.tuples(st.just("name"), st.sampled_from(_TENSORS)),
)
of_parts: st.SearchStrategy[list[Edit]] = st.lists(
    st.one_of(
        st.tuples(st.just("number"), st.tuples(st.sampled_from(NUMBERS), _values)),
        st.tuples(st.just("key"), st.tuples(st.sampled_from(OTHERS), _values)),
        st.tuples(st.just("drop"), st.tuples(_places)),
        st.tuples(st.just("retype"), st.tuples(_places, _values)),
        st.tuples(st.just("word"), st.tuples(st.sampled_from(["tokens", "merges"]), _places, _words)),
        st.tuples(st.just("tensor"), st.tuples(_places, _of_tensors)),
        st.tuples(st.just("family"), st.tuples(st.sampled_from(FAMILIES))),
    ),
    min_size=1,
    max_size=4,
)
of_bytes: st.SearchStrategy[list[Edit]] = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.tuples(_places, st.integers(0, 7))),
        st.tuples(st.just("write"), st.tuples(_places, st.sampled_from([1, 2, 4, 8]), _integers)),
        st.tuples(st.just("delete"), st.tuples(_places, st.integers(1, 40))),
        st.tuples(st.just("repeat"), st.tuples(_places, _places, st.integers(1, 60))),
        st.tuples(st.just("cut"), st.tuples(_places)),
    ),
    min_size=1,
    max_size=5,
)


def edited(valid: RawFile, parts: Sequence[Edit], data: Sequence[Edit]) -> bytes:
    """The file after edits of its parts, then of the bytes of its header."""
    raw = valid.copy()
    for name, arguments in parts:
        _PARTS[name](raw, *arguments)
    head = bytearray(raw.head())
    for name, arguments in data:
        if len(head) > 1:
            _BYTES[name](head, *arguments)
    return bytes(head) + bytes(-len(head) % raw.alignment) + raw.data


def _set_number(raw: RawFile, name: str, value: tuple[int, bytes]) -> None:
    raw.set(f"{_family(raw)}.{name}", *value)


def _set_key(raw: RawFile, name: str, value: tuple[int, bytes]) -> None:
    raw.set(name, *value)


def _drop(raw: RawFile, at: int) -> None:
    if raw.pairs:
        raw.pairs.pop(at % len(raw.pairs))


def _retype(raw: RawFile, at: int, value: tuple[int, bytes]) -> None:
    if raw.pairs:
        raw.pairs[at % len(raw.pairs)] = (raw.pairs[at % len(raw.pairs)][0], *value)


def _set_word(raw: RawFile, name: str, at: int, word: str) -> None:
    key = f"tokenizer.ggml.{name}"
    payload = next((payload for found, _, payload in raw.pairs if found == key.encode()), b"")
    if payload[:4] != u32(STRING):
        return
    words, place = list[bytes](), 12
    while place < len(payload):
        (size,) = struct.unpack_from("<Q", payload, place)
        words.append(payload[place + 8 : place + 8 + size])
        place += 8 + size
    if words:
        words[at % len(words)] = word.encode()
        raw.set(key, ARRAY, texts(words))


def _set_tensor(raw: RawFile, at: int, field: tuple[str, Any]) -> None:
    setattr(raw.tensors[at % len(raw.tensors)], field[0], field[1])


def _set_family(raw: RawFile, name: str) -> None:
    old, new = f"{_family(raw)}.".encode(), f"{name}.".encode()
    raw.pairs = [
        (new + key.removeprefix(old) if key.startswith(old) else key, kind, payload)
        for key, kind, payload in raw.pairs
    ]
    raw.set("general.architecture", STRING, text(name))


def _family(raw: RawFile) -> str:
    found = (payload[8:] for key, _, payload in raw.pairs if key == b"general.architecture")
    return next(found, b"llama").decode("latin-1")


def _flip(head: bytearray, at: int, bit: int) -> None:
    head[at % len(head)] ^= 1 << bit


def _write(head: bytearray, at: int, size: int, value: int) -> None:
    head[at % len(head) : at % len(head) + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def _delete(head: bytearray, at: int, count: int) -> None:
    del head[at % len(head) : at % len(head) + count]


def _repeat(head: bytearray, at: int, start: int, count: int) -> None:
    part = head[start % len(head) : start % len(head) + count]
    head[at % len(head) : at % len(head)] = part


def _cut(head: bytearray, at: int) -> None:
    del head[at % len(head) :]


_PARTS = {
    "number": _set_number,
    "key": _set_key,
    "drop": _drop,
    "retype": _retype,
    "word": _set_word,
    "tensor": _set_tensor,
    "family": _set_family,
}
_BYTES = {"flip": _flip, "write": _write, "delete": _delete, "repeat": _repeat, "cut": _cut}
