"""Keys of a model file with values of another type, out of range or not there: cases of `malformed`."""

from tests.frontend.damage import TOKENS, Case, N, pair, without
from tests.frontend.raw_gguf import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I8,
    I64,
    STRING,
    U32,
    U64,
    f32,
    f64,
    floats,
    i64,
    integers,
    text,
    texts,
    u32,
    u64,
)

# Values by the name of their type in messages.
_SAMPLES = {
    "string": (STRING, text("8")),
    "bool": (BOOL, b"\x01"),
    "u32": (U32, u32(8)),
    "f32": (F32, f32(8.0)),
    "array of 2 i32s": (ARRAY, integers([8, 8])),
    "array of 1 strings": (ARRAY, texts(["8"])),
}
_INTEGERS = (
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "rope.dimension_count",
    "attention.key_length",
    "attention.sliding_window",
    "nextn_predict_layers",
)
_FLOATS = ("attention.layer_norm_rms_epsilon", "rope.freq_base")
_TEXTS = ("general.name", "general.license", f"{TOKENS}pre", f"{TOKENS}model", "tokenizer.chat_template")
_FLAGS = ("add_bos_token", "add_eos_token", "add_space_prefix")
_IDS = (
    "bos",
    "eos",
    "unknown",
    "padding",
    "seperator",
    "mask",
    "eot",
    "eom",
    "fim_pad",
    "fim_rep",
    "fim_sep",
)


def _of_other_types() -> dict[str, Case]:
    wanted = {
        **{
            f"llama.{name}": ("an integer", ("string", "bool", "f32", "array of 1 strings"))
            for name in _INTEGERS
        },
        **{f"llama.{name}": ("a float", ("string", "bool", "u32", "array of 2 i32s")) for name in _FLOATS},
        **dict.fromkeys(_TEXTS, ("a string", ("bool", "u32", "array of 1 strings"))),
        **{f"{TOKENS}{name}": ("a bool", ("string", "u32", "array of 2 i32s")) for name in _FLAGS},
        **{f"{TOKENS}{name}_token_id": ("an integer", ("string", "f32")) for name in _IDS},
        f"{TOKENS}tokens": ("an array of strings", ("string", "u32")),
        f"{TOKENS}scores": ("an array of f32s", ("f32", "array of 2 i32s", "array of 1 strings")),
        f"{TOKENS}token_type": ("an array of i32s", ("u32", "array of 1 strings")),
    }
    return {
        f"{key}-{kind}": (f"key {key} must be {name}, found {kind}", pair(key, *_SAMPLES[kind]))
        for key, (name, kinds) in wanted.items()
        for kind in kinds
    }


def _out_of_range() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for name in _IDS:
        key = f"{TOKENS}{name}_token_id"
        words = f"key {key} must be below {N}, found"
        cases[f"{name}-past"] = (f"{words} {N}", pair(key, U64, u64(N)))
        cases[f"{name}-negative"] = (f"{words} -2", pair(key, I8, b"\xfe"))
    for name in ("attention.layer_norm_rms_epsilon", "rope.freq_base"):
        key = f"llama.{name}"
        cases[f"{name}-negative"] = ("must be finite and above 0, found -1.0", pair(key, F32, f32(-1.0)))
        cases[f"{name}-minus-inf"] = ("finite and above 0, found -inf", pair(key, F32, f32(float("-inf"))))
        cases[f"{name}-denormal"] = ("must be from 1e-30 to 1e.30, found 1.*e-45", pair(key, F32, f32(1e-45)))
        # Larger than any f32: the tables of rotations are f32.
        cases[f"{name}-f64"] = ("must be from 1e-30 to 1e.30, found 1e.300", pair(key, F64, f64(1e300)))
    for name in ("block_count", "context_length", "embedding_length", "feed_forward_length"):
        key, words = f"llama.{name}", "must be from 1 to [0-9]+, found"
        cases[f"{name}-u64"] = (f"{words} 18446744073709551615", pair(key, U64, u64(2**64 - 1)))
        cases[f"{name}-i64"] = (f"{words} -9223372036854775808", pair(key, I64, i64(-(2**63))))
    return cases


_REQUIRED = (
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
)

KEYS: dict[str, Case] = {
    **_of_other_types(),
    **_out_of_range(),
    **{f"no-{key}": (f"key {key} is required, the file has none", without(key)) for key in _REQUIRED},
    "scores-inf": (
        "must hold finite numbers only",
        pair(f"{TOKENS}scores", ARRAY, floats([float("inf")] * N)),
    ),
}
