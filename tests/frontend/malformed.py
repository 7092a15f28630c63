"""Malformed model files, made from a valid one: each has one thing wrong, and the words that must say so.

`python -m tests.frontend.malformed FOLDER` writes them all. What they attack is what has been found in other
readers: counts that wrap, values of the wrong type, data outside the file, ids that are no tokens.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from ck.errors import CkError, MalformedError, UnsupportedError
from tests.frontend.damage import (
    EMBEDDING,
    HUGE,
    QUERY,
    TOKENS,
    TYPES,
    WORDS,
    Case,
    N,
    cut,
    drop,
    extra,
    fields,
    last,
    long_key,
    more,
    number,
    pair,
    real,
    tensor,
    without,
    words,
)
from tests.frontend.make_gguf import write_tiny
from tests.frontend.malformed_keys import KEYS
from tests.frontend.malformed_parts import CUTS, UNSUPPORTED, VALUES, VOCABULARIES
from tests.frontend.raw_gguf import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I8,
    I32,
    STRING,
    U8,
    U32,
    U64,
    RawFile,
    f32,
    floats,
    integers,
    parse,
    text,
    texts,
    u32,
    u64,
)


def _swap(raw: RawFile) -> None:
    first, second = raw.tensors[:2]
    first.offset, second.offset = second.offset, first.offset


def _big_endian(raw: RawFile) -> bytes:
    return b"GGUF" + (3).to_bytes(4, "big") + raw.pack()[8:]


HEADER: dict[str, Case] = {
    "empty": ("a GGUF header takes 24 bytes, the file has 0", cut(0)),
    "four-bytes": ("a GGUF header takes 24 bytes, the file has 4", cut(4)),
    "23-bytes": ("a GGUF header takes 24 bytes, the file has 23", cut(23)),
    "magic": ("the first four bytes must be GGUF, found GGML", fields(magic=b"GGML")),
    "magic-zip": ("the first four bytes must be GGUF, found PK", fields(magic=b"PK\x03\x04")),
    "magic-pointer": ("git-lfs pointer", lambda raw: b"version https://git-lfs.github.com/spec/v1\noid x"),
    "version-0": ("version must be 2 or 3, found 0", fields(version=u32(0))),
    "version-1": ("version must be 2 or 3, found 1", fields(version=u32(1))),
    "version-4": ("version must be 2 or 3, found 4", fields(version=u32(4))),
    "version-max": ("version must be 2 or 3, found 4294967295", fields(version=u32(2**32 - 1))),
    "big-endian": ("must be little-endian, it is big-endian", _big_endian),
    "tensors-max": ("number of tensors must be at most 65536", fields(n_tensors=HUGE)),
    "tensors-many": ("tensors take at least", fields(n_tensors=65_536)),
    "tensors-one-more": ("number of dimensions|length of|must have|takes", lambda raw: _one_more_tensor(raw)),
    "keys-max": ("number of keys must be at most 65536", fields(n_pairs=HUGE)),
    "keys-many": ("keys take at least 840000 bytes", fields(n_pairs=60_000)),
    "cut-in-keys": ("are left in the file", cut(801)),
    "cut-in-tokens": ("must end within the header", cut(3000)),
}


def _one_more_tensor(raw: RawFile) -> bytes:
    raw.n_tensors = len(raw.tensors) + 1
    return raw.pack()


PAIRS: dict[str, Case] = {
    "key-empty": ("must have at least one character", more(b"", U32, u32(1))),
    "key-length": (
        "must have at most 65535 bytes, found 18446744073709551615",
        lambda raw: long_key(raw, HUGE),
    ),
    "key-64k": ("must have at most 65535 bytes, found 65536", more(b"k" * 65_536, U32, u32(1))),
    "key-past-end": ("takes 60000 bytes", lambda raw: long_key(raw, 60_000)),
    "key-latin1": ("must be UTF-8", more(b"caf\xe9", U32, u32(1))),
    "key-twice": ("must occur once", more(b"general.name", STRING, text("again"))),
    "type-13": ("must be 0 to 12, found 13", more(b"x", 13, u32(1))),
    "type-max": ("must be 0 to 12, found 4294967295", more(b"x", 2**32 - 1, u32(1))),
    "bool-2": ("must be 0 or 1, found 2", more(b"x", BOOL, b"\x02")),
    "text-length-max": ("at most 16777216 bytes", last(u64(HUGE), STRING)),
    "text-2-40": ("at most 16777216 bytes", last(u64(2**40), STRING)),
    "text-past-end": ("takes 5 bytes, 3 are left", last(u64(5) + b"abc", STRING)),
    "text-latin1": ("must be UTF-8", more(b"x", STRING, text(b"\xff\xfe"))),
    "array-2-60": ("bytes, ", last(u32(U8) + u64(2**60))),
    "array-wraps": ("bytes, ", last(u32(U32) + u64(2**62))),
    "array-max": ("bytes, ", last(u32(U64) + u64(HUGE))),
    "array-one-short": ("takes 8 bytes, 7 are left", last(u32(F64) + u64(1) + bytes(7))),
    "array-of-arrays": (
        "found an array of arrays",
        more(b"x", ARRAY, u32(ARRAY) + u64(1) + u32(U8) + u64(0)),
    ),
    "array-deep": ("found an array of arrays", last((u32(ARRAY) + u64(1)) * 5000)),
    "array-type": ("must be 0 to 12, found 99", more(b"x", ARRAY, u32(99) + u64(1) + u32(0))),
    "texts-max": ("arrays may hold 2097152 strings", last(u32(STRING) + u64(HUGE))),
    "texts-past-end": ("must end within the header", last(u32(STRING) + u64(1000))),
    "texts-length": ("must end within the header", last(u32(STRING) + u64(2) + u64(HUGE) + u64(0))),
    "texts-wrap": (
        "must end within the header",
        last(u32(STRING) + u64(2) + u64(2**63 - 9) + u64(2**63 - 9)),
    ),
    "alignment-0": ("must be a power of two from 8", pair("general.alignment", U32, u32(0))),
    "alignment-4": ("must be a power of two from 8", pair("general.alignment", U32, u32(4))),
    "alignment-13": ("must be a power of two from 8", pair("general.alignment", U32, u32(13))),
    "alignment-2-31": ("must be a power of two from 8", pair("general.alignment", U32, u32(2**31))),
    "alignment-text": ("must be a u32, found string", pair("general.alignment", STRING, text("32"))),
    "alignment-u64": ("must be a u32, found u64", pair("general.alignment", U64, u64(32))),
}


TENSORS: dict[str, Case] = {
    "dims-0": ("must have 1 to 4 dimensions, found 0", tensor(QUERY, n_dims=0)),
    "dims-5": ("must have 1 to 4 dimensions, found 5", tensor(QUERY, n_dims=5)),
    "dims-max": ("must have 1 to 4 dimensions, found 4294967295", tensor(QUERY, n_dims=2**32 - 1)),
    "dim-zero": ("must be at least 1", tensor(QUERY, dims=[32, 0])),
    "dim-2-63": ("must end within the file", tensor(QUERY, dims=[2**63, 1])),
    "dims-wrap-to-0": ("must end within the file", tensor(QUERY, dims=[2**32, 2**32])),
    "dims-wrap-to-size": ("must end within the file", tensor(QUERY, dims=[32, 2**62 + 32])),
    "dims-pad-wraps": ("must end within the file", tensor(QUERY, dims=[2**62 - 1, 1])),
    "type-unknown": ("must be one that ggml defines, found 255", tensor(QUERY, kind=255)),
    "type-negative": ("must be one that ggml defines, found 4294967295", tensor(QUERY, kind=2**32 - 1)),
    "type-removed": ("must be one that ggml defines, found 4", tensor(QUERY, kind=4)),
    "block-multiple": ("must be multiples of 32, found 8", extra(b"x", [8, 1], kind=8)),
    "name-empty": ("must have a name", extra(b"", [1])),
    "name-65": ("must have at most 64 bytes, found 65", extra(b"n" * 65, [1])),
    "name-megabyte": ("must have at most 64 bytes, found 1000000", extra(b"n" * 1_000_000, [1])),
    "name-latin1": ("must be UTF-8", extra(b"\xff", [1])),
    "name-twice": ("must occur once", extra(QUERY.encode(), [32, 32])),
    "offset-unaligned": ("must start at a multiple of 32", extra(b"x", [1], offset=33)),
    "offset-overlap": ("must start behind the one before", extra(b"x", [1], offset=0)),
    "offset-order": ("must start behind the one before", _swap),
    "offset-past-end": ("must end within the file", extra(b"x", [1], offset=2**40)),
    "offset-wraps": ("must end within the file", extra(b"x", [8], offset=2**64 - 32)),
    "data-cut": ("download the file again if it was cut short", lambda raw: raw.pack()[:-40]),
    "data-none": ("must end within the file", lambda raw: raw.head()),
    "missing-embedding": (f"tensor {EMBEDDING} is required", drop(EMBEDDING)),
    "missing-layer": ("tensor blk.1.ffn_down.weight is required", drop("blk.1.ffn_down.weight")),
    "missing-norm": ("tensor output_norm.weight is required", drop("output_norm.weight")),
    "shape-query": (
        f"tensor {QUERY} must be \\[64, 64\\], found \\[32, 128\\]",
        tensor(QUERY, dims=[128, 32]),
    ),
    "shape-norm": ("tensor output_norm.weight must be \\[64\\]", tensor("output_norm.weight", dims=[32, 2])),
    "shape-rank": (f"tensor {QUERY} must be", tensor(QUERY, dims=[64, 32, 2])),
}


HYPERPARAMETERS: dict[str, Case] = {
    "no-architecture": ("key general.architecture is required", without("general.architecture")),
    "architecture-number": ("must be a string, found u32", pair("general.architecture", U32, u32(1))),
    "no-layers": ("key llama.block_count is required", without("llama.block_count")),
    "layers-0": ("must be from 1 to 1024, found 0", number("block_count", 0)),
    "layers-1025": ("must be from 1 to 1024, found 1025", number("block_count", 1025)),
    "layers-one-more": ("tensor blk.2.attn_norm.weight is required", number("block_count", 3)),
    "layers-negative": ("must be from 1 to 1024, found -1", pair("llama.block_count", I32, b"\xff" * 4)),
    "layers-text": ("must be an integer, found string", pair("llama.block_count", STRING, text("2"))),
    "layers-float": ("must be an integer, found f32", pair("llama.block_count", F32, f32(2))),
    "layers-array": ("must be an integer, found array", pair("llama.block_count", ARRAY, integers([2, 2]))),
    "width-0": ("must be from 1 to", number("embedding_length", 0)),
    "width-max": ("must be from 1 to", number("embedding_length", 2**32 - 1)),
    "heads-0": ("must be from 1 to 1024, found 0", number("attention.head_count", 0)),
    "heads-many": ("must be from 1 to 1024, found 2000", number("attention.head_count", 2000)),
    "heads-kv-0": ("must be from 1 to 4, found 0", number("attention.head_count_kv", 0)),
    "heads-kv-3": ("must divide the 4 heads, found 3", number("attention.head_count_kv", 3)),
    "heads-kv-8": ("must be from 1 to 4, found 8", number("attention.head_count_kv", 8)),
    "heads-uneven": ("must divide the width 64, found 6", number("attention.head_count", 6)),
    "head-width": ("must be from 2 to 4096, found 100000", number("attention.key_length", 100_000)),
    "context-0": ("must be from 1 to", number("context_length", 0)),
    "context-max": ("must be from 1 to", number("context_length", 2**32 - 1)),
    "forward-0": ("must be from 1 to", number("feed_forward_length", 0)),
    "no-eps": ("layer_norm_rms_epsilon is required", without("llama.attention.layer_norm_rms_epsilon")),
    "eps-0": ("must be finite and above 0", real("attention.layer_norm_rms_epsilon", 0.0)),
    "eps-1": ("must be between 0 and 1, found 1.0", real("attention.layer_norm_rms_epsilon", 1.0)),
    "eps-nan": (
        "must be finite and above 0, found nan",
        real("attention.layer_norm_rms_epsilon", float("nan")),
    ),
    "base-0": ("must be finite and above 0", real("rope.freq_base", 0.0)),
    "base-inf": ("must be finite and above 0, found inf", real("rope.freq_base", float("inf"))),
    "base-integer": ("must be a float, found u32", number("rope.freq_base", 10_000)),
    "rope-odd": ("must be even, found 7", number("rope.dimension_count", 7)),
    "rope-wide": ("must be from 2 to 16, found 64", number("rope.dimension_count", 64)),
    "factor-0": ("must be finite and above 0", lambda raw: _linear(raw, 0.0)),
}


def _linear(raw: RawFile, factor: float) -> None:
    raw.set("llama.rope.scaling.type", STRING, text("linear"))
    raw.set("llama.rope.scaling.factor", F32, f32(factor))


TOKENIZER: dict[str, Case] = {
    "no-model": ("key tokenizer.ggml.model is required", without(TOKENS + "model")),
    "model-number": ("must be a string, found u32", pair(TOKENS + "model", U32, u32(1))),
    "no-tokens": ("key tokenizer.ggml.tokens is required", without(TOKENS + "tokens")),
    "tokens-numbers": ("must be an array of strings", pair(TOKENS + "tokens", ARRAY, integers([0] * N))),
    "tokens-few": ("must have 272 tokens", pair(TOKENS + "tokens", ARRAY, texts(WORDS[:-1]))),
    "tokens-many": ("must have 272 tokens", pair(TOKENS + "tokens", ARRAY, texts([*WORDS, "z"]))),
    "tokens-none": ("must have 272 tokens", pair(TOKENS + "tokens", ARRAY, texts([]))),
    "token-twice": ("tokens must differ, a is token 260 and token 261", words(261, "a")),
    "token-latin1": ("string 261 of key tokenizer.ggml.tokens must be UTF-8", words(261, b"\xff")),
    "token-long": ("must have at most 65536 characters, found 65537", words(261, "x" * 65_537)),
    "byte-negative": ("byte token 4 must be written <0x00> to <0xFF>", words(4, "<0x-1>")),
    "byte-letters": ("byte token 4 must be written <0x00> to <0xFF>", words(4, "<0xZZ>")),
    "byte-long": ("byte token 4 must be written <0x00> to <0xFF>", words(4, "<0x100>")),
    "no-scores": ("key tokenizer.ggml.scores is required", without(TOKENS + "scores")),
    "scores-few": ("must have 272 elements", pair(TOKENS + "scores", ARRAY, floats([0.0] * (N - 1)))),
    "scores-u8": (
        "array of f32s, found array of 272 u8s",
        pair(TOKENS + "scores", ARRAY, u32(0) + u64(N) + bytes(N)),
    ),
    "scores-nan": (
        "must hold finite numbers only",
        pair(TOKENS + "scores", ARRAY, floats([float("nan")] * N)),
    ),
    "types-few": ("must have 272 elements", pair(TOKENS + "token_type", ARRAY, integers(TYPES[:-1]))),
    "types-f32": (
        "array of i32s, found array of 272 f32s",
        pair(TOKENS + "token_type", ARRAY, floats([1.0] * N)),
    ),
    "types-7": (
        "must hold 0 to 6, found 1 to 7",
        pair(TOKENS + "token_type", ARRAY, integers([*TYPES[1:], 7][::-1])),
    ),
    "types-negative": (
        "must hold 0 to 6, found -1",
        pair(TOKENS + "token_type", ARRAY, integers([-1, *TYPES[1:]])),
    ),
    "bos-range": ("bos_token_id must be below 272, found 272", pair(TOKENS + "bos_token_id", U32, u32(N))),
    "eos-max": ("eos_token_id must be below 272", pair(TOKENS + "eos_token_id", U32, u32(2**32 - 1))),
    "eot-range": ("eot_token_id must be below 272", pair(TOKENS + "eot_token_id", U32, u32(10**6))),
    "unknown-range": ("unknown_token_id must be below", pair(TOKENS + "unknown_token_id", U32, u32(N))),
    "padding-negative": (
        "padding_token_id must be below 272, found -1",
        pair(TOKENS + "padding_token_id", I8, b"\xff"),
    ),
    "bos-text": ("must be an integer, found string", pair(TOKENS + "bos_token_id", STRING, text("1"))),
    "add-bos-number": ("must be a bool, found u32", pair(TOKENS + "add_bos_token", U32, u32(1))),
    "template-number": ("must be a string, found u32", pair("tokenizer.chat_template", U32, u32(1))),
}

PAIR_TOKENIZER: dict[str, Case] = {
    "no-merges": ("key tokenizer.ggml.merges is required", without(TOKENS + "merges")),
    "merges-numbers": ("must be an array of strings", pair(TOKENS + "merges", ARRAY, integers([1, 2]))),
    "merge-one-word": (
        "must be two tokens with a space between",
        pair(TOKENS + "merges", ARRAY, texts(["ab"])),
    ),
    "merge-empty": ("must be two tokens with a space between", pair(TOKENS + "merges", ARRAY, texts([""]))),
    "merge-half": ("must be two tokens with a space between", pair(TOKENS + "merges", ARRAY, texts(["a "]))),
    "merge-unknown": (
        "merge 0 must be of tokens, zz is none",
        pair(TOKENS + "merges", ARRAY, texts(["zz a"])),
    ),
    "merge-result": (
        "merge 1 must be of tokens, ba is none",
        pair(TOKENS + "merges", ARRAY, texts(["a b", "b a"])),
    ),
    "add-bos-none": ("bos_token_id is required when", lambda raw: _bos_without_id(raw)),
}


def _bos_without_id(raw: RawFile) -> None:
    raw.remove(TOKENS + "bos_token_id")
    raw.set(TOKENS + "add_bos_token", BOOL, b"\x01")


GROUPS = {
    "header": HEADER,
    "pairs": PAIRS,
    "tensors": TENSORS,
    "hyperparameters": HYPERPARAMETERS,
    "tokenizer": TOKENIZER,
    "pair-tokenizer": PAIR_TOKENIZER,
    "keys": KEYS,
    "cuts": CUTS,
    "values": VALUES,
    "vocabularies": VOCABULARIES,
    "unsupported": UNSUPPORTED,
}
CASES = {f"{group}-{name}": case for group, cases in GROUPS.items() for name, case in cases.items()}


def kind_of(name: str) -> type[CkError]:
    """What a case must end in."""
    return UnsupportedError if name.startswith("unsupported-") else MalformedError


def write_malformed(folder: Path, names: Iterable[str] = CASES) -> dict[str, Path]:
    """Write cases to `folder`; the files by case."""
    valid = {
        pairs: parse(write_tiny(folder / f"valid-{pairs}.gguf", pairs).read_bytes())
        for pairs in (False, True)
    }
    paths: dict[str, Path] = {}
    for name in names:
        raw = valid[name.startswith("pair-tokenizer")].copy()
        data = CASES[name][1](raw)
        paths[name] = folder / f"{name}.gguf"
        paths[name].write_bytes(raw.pack() if data is None else data)
    return paths


if __name__ == "__main__":
    print(f"{len(write_malformed(Path(sys.argv[1])))} files")
