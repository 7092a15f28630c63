"""Files cut at every kind of field, tensors and vocabularies that do not fit, and what ck does not have.

Cases of `malformed`; those of UNSUPPORTED are well formed, and end in another exit code.
"""

from collections.abc import Callable

from ck.dtypes import BY_GGML_ID
from tests.frontend.damage import (
    EMBEDDING,
    QUERY,
    TOKENS,
    Case,
    N,
    drop,
    extra,
    more,
    number,
    pair,
    tensor,
    words,
)
from tests.frontend.raw_gguf import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U16,
    U32,
    RawFile,
    f32,
    floats,
    integers,
    text,
    texts,
    u16,
    u32,
    u64,
)


def _ends_at(n_bytes: int) -> Callable[[RawFile], bytes]:
    """The file, which is to have one key and no tensor, ends after so many bytes."""

    def change(raw: RawFile) -> bytes:
        raw.n_pairs, raw.n_tensors = 1, 0
        return raw.pack()[:n_bytes]

    return change


def _ends_before(n_bytes: int) -> Callable[[RawFile], bytes]:
    """The file ends in the entry of its last tensor, a matrix: 16 + 33 + 4 + 16 + 4 + 8 bytes."""
    return lambda raw: raw.head()[:-n_bytes]


# The first pair is general.architecture: length, 20 bytes, type, length, "llama".
CUTS: dict[str, Case] = {
    "magic": ("takes 24 bytes, the file has 3", _ends_at(3)),
    "version": ("takes 24 bytes, the file has 8", _ends_at(8)),
    "n-tensors": ("takes 24 bytes, the file has 15", _ends_at(15)),
    "counts-only": ("1 keys take at least 14 bytes, 0 are left", _ends_at(24)),
    "key-length": ("1 keys take at least 14 bytes, 7 are left", _ends_at(31)),
    "key": ("key 0 at byte 32 takes 20 bytes, 8 are left", _ends_at(40)),
    "type": ("type of key general.architecture at byte 52 takes 4 bytes, 2 are left", _ends_at(54)),
    "text-length": ("length of value of key .* takes 8 bytes, 4 are left", _ends_at(60)),
    "text": ("value of key general.architecture at byte 64 takes 5 bytes, 2 are left", _ends_at(66)),
    "tensor-name-length": ("takes 8 bytes, 7 are left", _ends_before(66 + 8)),
    "tensor-name": ("name of tensor 20 at byte [0-9]+ takes [0-9]+ bytes, [0-9]+ are left", _ends_before(40)),
    "tensor-n-dims": ("number of dimensions of .* takes 4 bytes, 3 are left", _ends_before(29)),
    "tensor-dims": ("dimensions of .* takes 8 bytes, 7 are left", _ends_before(13)),
    "tensor-type": ("storage type of .* takes 4 bytes, 2 are left", _ends_before(10)),
    "tensor-offset": ("offset of .* takes 8 bytes, 5 are left", _ends_before(3)),
    "one-key-less": (
        "must have at most|must be|takes|are left|must have",
        lambda raw: _miscounted(raw, -1, 0),
    ),
    "one-key-more": ("must be 0 to 12, found|takes|must have at most", lambda raw: _miscounted(raw, 1, 0)),
    "one-tensor-less": ("is required|variant", lambda raw: _miscounted(raw, 0, -1)),
    "no-tensors": (f"tensor {EMBEDDING} is required", lambda raw: _miscounted(raw, 0, -len(raw.tensors))),
    "no-keys": ("must have|takes|are left|must be", lambda raw: _miscounted(raw, -len(raw.pairs), 0)),
    "text-for-file": ("the first four bytes must be GGUF, found #", lambda raw: b"# a README\n" * 100),
    "zeros": ("the first four bytes must be GGUF", lambda raw: bytes(5000)),
    "zip": ("the first four bytes must be GGUF, found PK", lambda raw: b"PK\x03\x04" + bytes(100)),
    "safetensors": ("must be GGUF", lambda raw: u64(2) + b"{}" + bytes(100)),
    "doubled": ("must have at most|takes|must", lambda raw: raw.head()[:24] + raw.pack()),
}


def _miscounted(raw: RawFile, pairs: int, tensors: int) -> bytes:
    raw.n_pairs, raw.n_tensors = len(raw.pairs) + pairs, len(raw.tensors) + tensors
    return raw.pack()


def _turned(name: str) -> Callable[[RawFile], None]:
    return lambda raw: tensor(name, dims=raw.tensor(name).dims[::-1])(raw)


def _stored_as(number: int, block: int) -> Callable[[RawFile], None]:
    """Rows that are no multiple of the type's block."""
    return extra(b"x", [block + 1 if block > 1 else 1, 1], kind=number)


def _added(name: bytes) -> Callable[[RawFile], None]:
    """A vector more, with its data."""

    def change(raw: RawFile) -> None:
        extra(name, [64])(raw)
        raw.data += bytes(256)

    return change


def _split(number: int, count: int, total: int = 21) -> Callable[[RawFile], None]:
    def change(raw: RawFile) -> None:
        raw.set("split.no", U16, u16(number))
        raw.set("split.count", U16, u16(count))
        raw.set("split.tensors.count", I32, u32(total))

    return change


def _listed_windows(values: bytes, window: int = 7) -> Callable[[RawFile], None]:
    def change(raw: RawFile) -> None:
        raw.set("llama.attention.sliding_window", U32, u32(window))
        payload = u32(BOOL) + u64(len(values)) + values
        raw.set("llama.attention.sliding_window_pattern", ARRAY, payload)

    return change


def _yarn(**given: float) -> Callable[[RawFile], None]:
    def change(raw: RawFile) -> None:
        raw.set("llama.rope.scaling.type", STRING, text("yarn"))
        raw.set("llama.rope.scaling.factor", F32, f32(4.0))
        raw.set("llama.rope.scaling.original_context_length", U32, u32(64))
        for name, value in given.items():
            raw.set(f"llama.rope.{name.replace('__', '.')}", F32, f32(value))

    return change


_LAYER = (
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
)

VALUES: dict[str, Case] = {
    **{
        f"no-{name}": (
            f"tensor blk.1.{name}.weight is required, the file has none",
            drop(f"blk.1.{name}.weight"),
        )
        for name in _LAYER
    },
    "no-output-norm": ("tensor output_norm.weight is required", drop("output_norm.weight")),
    **{
        f"turned-{name}": (f"tensor blk.0.{name}.weight must be .*, found", _turned(f"blk.0.{name}.weight"))
        for name in ("attn_k", "attn_v")
    },
    **{
        f"flat-{name}": (f"tensor blk.0.{name}.weight must be", tensor(f"blk.0.{name}.weight", dims=[64]))
        for name in ("attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    },
    "flat-head": (
        "tensor output.weight must be \\[272, 64\\], found \\[64\\]",
        tensor("output.weight", dims=[64]),
    ),
    "deep-norm": ("must be \\[64\\], found \\[1, 64\\]", tensor("blk.0.attn_norm.weight", dims=[64, 1])),
    "short-norm": ("must be \\[64\\], found \\[32\\]", tensor("blk.0.ffn_norm.weight", dims=[32])),
    "flat-embedding": ("must have [0-9]+ tokens|must be \\[17408, 64\\]", tensor(EMBEDDING, dims=[64 * 272])),
    "wide-embedding": ("must be \\[136, 64\\]|must have 136 tokens", tensor(EMBEDDING, dims=[128, 136])),
    **{
        f"rows-{kind.name}": (
            f"{kind.name} rows of tensor x must be multiples of {kind.block}, found {kind.block + 1}",
            _stored_as(number, kind.block),
        )
        for number, kind in BY_GGML_ID.items()
        if kind.block > 1
    },
    **{
        f"past-end-{kind.name}": ("must end within the file", extra(b"x", [kind.block, 2**40], kind=number))
        for number, kind in BY_GGML_ID.items()
    },
    "offset-max": ("must start at a multiple of 32", extra(b"x", [1], offset=2**64 - 1)),
    "offset-in-other": ("must start behind the one before", extra(b"x", [1], offset=64)),
    "name-nul": (f"tensor {QUERY} is required", tensor(QUERY, name=b"blk.0.attn_q\0.weight")),
    "key-length-odd": ("must be from 2 to 4096, found 1", number("attention.key_length", 1)),
    "key-length-wide": ("must be \\[128, 64\\]", number("attention.key_length", 32)),
    "next-all": ("must be from 0 to 1, found 2", number("nextn_predict_layers", 2)),
    "next-one": ("tensor output.weight|is required|must", number("nextn_predict_layers", 2**31)),
    "window-max": ("must be from 0 to 16777216", number("attention.sliding_window", 2**31)),
    "windows-none": ("must list 2 layers, found 0", _listed_windows(b"")),
    "windows-three": ("must list 2 layers, found 3", _listed_windows(bytes(3))),
    "windows-not-bools": ("bools of key .* must be 0 or 1, found 7", _listed_windows(b"\x07\x00")),
    "yarn-no-factor": ("scaling.factor must be finite and above 0, found 0.0", _yarn(scaling__factor=0.0)),
    "yarn-factor-tiny": ("factor must be from 1e-30 to 1e.30", _yarn(scaling__factor=1e-45)),
    "yarn-factor-nan": ("must be finite and above 0, found nan", _yarn(scaling__factor=float("nan"))),
    "yarn-beta-zero": ("must be finite and above 0, found 0.0", _yarn(scaling__yarn_beta_fast=0.0)),
    "yarn-beta-inf": ("must be finite and above 0, found inf", _yarn(scaling__yarn_beta_slow=float("inf"))),
    "yarn-base-one": ("rope.freq_base must be above 1, found 1.0", _yarn(freq_base=1.0)),
    "linear-tiny": ("scale_linear must be from 1e-30", pair("llama.rope.scale_linear", F32, f32(1e-40))),
    "split-alone": ("the name must end in -00001-of-00002.gguf", _split(0, 2)),
    "split-many": ("key split.count must be from 0 to 4096, found 60000", _split(0, 60_000)),
    "split-past": ("key split.no must be below the 2 parts, found 2", _split(2, 2)),
    "file-type-text": ("is required|label|must", lambda raw: _without_norm(raw)),
    "sampling-text": ("general.sampling.temp", pair("general.sampling.temp", STRING, text("hot"))),
    "sampling-list": ("general.sampling.top_k", pair("general.sampling.top_k", ARRAY, integers([1]))),
}


def _without_norm(raw: RawFile) -> None:
    """A file type that is a text is shown as none; what is missing is said."""
    raw.set("general.file_type", STRING, text("7"))
    raw.tensors.remove(raw.tensor("output_norm.weight"))


_TYPES = [2, 3, 3, 3, *[6] * 256, *[1] * 12]


def _typed(at: int, kind: int) -> Callable[[RawFile], None]:
    return pair(TOKENS + "token_type", ARRAY, integers([*_TYPES[:at], kind, *_TYPES[at + 1 :]]))


def _model(name: str) -> Callable[[RawFile], None]:
    return pair(TOKENS + "model", STRING, text(name))


def _merged(*merges: str) -> Callable[[RawFile], None]:
    """Pieces that are joined by merges of their own."""

    def change(raw: RawFile) -> None:
        raw.set(TOKENS + "model", STRING, text("gemma4"))
        raw.set(TOKENS + "merges", ARRAY, texts(merges))

    return change


VOCABULARIES: dict[str, Case] = {
    "token-surrogate": ("string 265 of key .* must be UTF-8", words(265, b"\xed\xa0\x80")),
    "token-overlong": ("string 265 of key .* must be UTF-8", words(265, b"\xc0\x80")),
    "token-above": ("string 265 of key .* must be UTF-8", words(265, b"\xf4\x90\x80\x80")),
    "token-cut": ("string 265 of key .* must be UTF-8", words(265, b"\xe2\x96")),
    "token-five": ("string 265 of key .* must be UTF-8", words(265, b"\xf8\x88\x80\x80\x80")),
    "token-twice-empty": ("tokens must differ, +is token 264 and token 265", lambda raw: _empty_twice(raw)),
    "byte-lower": ("byte token 4 must be written <0x00> to <0xFF>", words(4, "<0xff>")),
    "byte-bare": ("byte token 4 must be written", words(4, "0x00")),
    "byte-line": ("byte token 4 must be written", words(4, "<0x00>\n")),
    "byte-of-word": ("byte token 265 must be written <0x00> to <0xFF>, found b", _typed(265, 6)),
    "byte-twice": ("tokens must differ, <0x01> is token 4 and token 5", words(4, "<0x01>")),
    "types-max": ("must hold 0 to 6, found 1 to 2147483647", _typed(265, 2**31 - 1)),
    "types-min": ("must hold 0 to 6, found -2147483648", _typed(265, -(2**31))),
    "scores-many": ("must have 272 elements", pair(TOKENS + "scores", ARRAY, floats([0.0] * (N + 1)))),
    "scores-none": (
        "must have 272 elements, one a token, found 0",
        pair(TOKENS + "scores", ARRAY, floats([])),
    ),
    "types-none": ("must have 272 elements, .* found 0", pair(TOKENS + "token_type", ARRAY, integers([]))),
    "merges-absent": (
        "key tokenizer.ggml.merges is required",
        pair(TOKENS + "model", STRING, text("gemma4")),
    ),
    "merges-of-none": ("merge 0 must be of tokens, ZZ is none", _merged("ZZ a")),
    "merges-one-word": ("merge 0 must be two tokens with a space between", _merged("ab")),
    "merges-result": ("merge 0 must be of tokens, cb is none", _merged("c b")),
    "template-latin1": ("must be UTF-8", more(b"x.y", STRING, text(b"\xe9"))),
    "model-empty": ("x", lambda raw: b"GGUF" + u32(3) + u64(0) + u64(0)),
}
VOCABULARIES["model-empty"] = ("is required, the file has none", VOCABULARIES["model-empty"][1])


def _empty_twice(raw: RawFile) -> None:
    words(265, "")(raw)
    key, kind, payload = raw.pairs.pop()
    # Token 264 too: the payloads lie one behind the other.
    raw.pairs.append((key, kind, payload.replace(text("e") + text(""), text("") + text(""))))


def _renamed(arch: str) -> Callable[[RawFile], None]:
    return pair("general.architecture", STRING, text(arch))


# What ggml knows and ck does not: number and name.
_UNREAD = {
    9: "q8_1", 15: "q8_k", 16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s", 21: "iq3_s", 22: "iq2_s",
    24: "i8", 25: "i16", 26: "i32", 27: "i64", 28: "f64", 29: "iq1_m", 34: "tq1_0", 35: "tq2_0", 39: "mxfp4",
}  # fmt: skip

UNSUPPORTED: dict[str, Case] = {
    **{
        f"type-{name}": (
            f"tensor {QUERY} is stored as {name}, ck reads .*; requantise it",
            tensor(QUERY, kind=number),
        )
        for number, name in _UNREAD.items()
    },
    **{
        f"family-{name}": (f"the architecture must be one of .*, found {name}", _renamed(name))
        for name in ("falcon", "gpt2", "mamba", "t5", "phi3", "gemma4", "deepseek2", "LLAMA", "llama ")
    },
    **{
        f"vocabulary-{name}": (
            f"{TOKENS}model must be one of .*, found {name}",
            pair(TOKENS + "model", STRING, text(name)),
        )
        for name in ("bert", "t5", "rwkv", "plamo2", "GPT2")
    },
    "experts": ("llama.expert_count must be absent or 0, found 8", number("expert_count", 8)),
    "scaling-kind": (
        "must be none, linear or yarn, found su",
        pair("llama.rope.scaling.type", STRING, text("su")),
    ),
    "yarn-extrapolation": ("must be absent or 1.0, found 0.5", _yarn(scaling__yarn_ext_factor=0.5)),
    "value-width": ("value_length must equal key_length 16", number("attention.value_length", 8)),
    "norm-f16": (
        "tensor blk.0.attn_norm.weight must be stored as f32, found f16",
        tensor("blk.0.attn_norm.weight", kind=1),
    ),
    "extra-bias": ("tensor blk.0.attn_q.bias belongs to a variant", _added(b"blk.0.attn_q.bias")),
    "extra-tensor": ("tensor x belongs to a variant that ck does not have", _added(b"x")),
    "extra-block": (
        "tensor blk.7.attn_q.weight belongs to a variant",
        _added(b"blk.7.attn_q.weight"),
    ),
    "windows-mixed": ("must have a window in every layer from one on", lambda raw: _mixed_windows(raw)),
}


def _mixed_windows(raw: RawFile) -> None:
    raw.set("llama.block_count", U32, u32(5))
    _listed_windows(bytes([0, 1, 0, 0, 1]))(raw)
