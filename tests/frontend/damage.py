"""Ways to damage a model file, one at a time: what the tables of malformed files are made of.

A change works on the file's loose parts, or gives the bytes that take their place.
"""

from collections.abc import Callable

from tests.frontend.raw_gguf import ARRAY, F32, U32, RawFile, RawTensor, f32, texts, u32, u64

# What goes wrong, in words of the message; and the change, on the file's parts or on its bytes.
Case = tuple[str, Callable[[RawFile], bytes | None]]

HUGE = 2**64 - 1
EMBEDDING, QUERY = "token_embd.weight", "blk.0.attn_q.weight"
TOKENS = "tokenizer.ggml."
N = 272
WORDS = ["<unk>", "<s>", "</s>", "<|im_end|>", *(f"<0x{byte:02X}>" for byte in range(256)), *"abcdefghijkl"]
TYPES = [2, 3, 3, 3, *[6] * 256, *[1] * 12]


def fields(**fields: object) -> Callable[[RawFile], None]:
    def change(raw: RawFile) -> None:
        for name, value in fields.items():
            setattr(raw, name, value)

    return change


def pair(key: str, kind: int, payload: bytes) -> Callable[[RawFile], None]:
    return lambda raw: raw.set(key, kind, payload)


def without(key: str) -> Callable[[RawFile], None]:
    return lambda raw: raw.remove(key)


def more(key: bytes, kind: int, payload: bytes) -> Callable[[RawFile], None]:
    return lambda raw: raw.pairs.append((key, kind, payload))


def last(payload: bytes, kind: int = ARRAY) -> Callable[[RawFile], bytes]:
    """The file ends in the value of its last key."""

    def change(raw: RawFile) -> bytes:
        raw.tensors, raw.n_tensors = [], 0
        raw.pairs.append((b"x", kind, payload))
        return raw.head()

    return change


def tensor(name: str, /, **fields: object) -> Callable[[RawFile], None]:
    def change(raw: RawFile) -> None:
        for key, value in fields.items():
            setattr(raw.tensor(name), key, value)

    return change


def drop(name: str) -> Callable[[RawFile], None]:
    return lambda raw: raw.tensors.remove(raw.tensor(name))


def cut(n_bytes: int) -> Callable[[RawFile], bytes]:
    return lambda raw: raw.pack()[:n_bytes]


def long_key(raw: RawFile, n_bytes: int) -> bytes:
    data = raw.pack()
    return data[:24] + u64(n_bytes) + data[32:4096]


def extra(name: bytes, dims: list[int], **fields: int) -> Callable[[RawFile], None]:
    def change(raw: RawFile) -> None:
        settings = {"kind": 0, "offset": len(raw.data)} | fields
        raw.tensors.append(RawTensor(name, dims, **settings))

    return change


def number(name: str, value: int) -> Callable[[RawFile], None]:
    return pair(f"llama.{name}", U32, u32(value))


def real(name: str, value: float) -> Callable[[RawFile], None]:
    return pair(f"llama.{name}", F32, f32(value))


def words(at: int, word: str | bytes, **more: object) -> Callable[[RawFile], None]:
    return pair(TOKENS + "tokens", ARRAY, texts([*WORDS[:at], word, *WORDS[at + 1 :]]))
