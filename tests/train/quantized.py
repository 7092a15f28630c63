"""What llama-quantize makes of three small models: bytes of whole files, and of headers, as sha256.

    python -m tests.train.quantized LLAMA_QUANTIZE VERSION      records tests/data/quantized.json

SMALL has two blocks of 256 columns whose numbers have all that is odd about groups; of DEEP, with 24 blocks,
and LARGE, with 80 and more heads that share values, only the headers count. Numbers come from whole numbers
alone, so they are the same everywhere.
"""

import hashlib
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ck.frontend.gguf import GgufFile
from tests.frontend.raw_gguf import (
    F32,
    STRING,
    U16,
    U32,
    RawFile,
    RawTensor,
    f32,
    floats,
    text,
    texts,
    u16,
    u32,
)

RECORDED = Path(__file__).parents[1] / "data" / "quantized.json"
WIDTH, HIDDEN, HEAD, VOCABULARY = 256, 256, 32, 48
TYPES = (
    "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1",
    "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
)  # fmt: skip
WHOLE = TYPES[2:]
# As llama-quantize spells them; MATRIX and OLDER stand for a file of weights.
MATRIX, OLDER = "imatrix.gguf", "imatrix.dat"
WITH_MATRIX, WITH_OLDER = ("--imatrix", MATRIX), ("--imatrix", OLDER)
OPTIONS: tuple[tuple[str, ...], ...] = (
    (), WITH_MATRIX, ("--pure",), ("--leave-output-tensor",), ("--output-tensor-type", "f16"),
    ("--token-embedding-type", "q4_0"), ("--pure", "--output-tensor-type", "q8_0"),
)  # fmt: skip


def label(of: str, options: tuple[str, ...]) -> str:
    """What a file is recorded under."""
    return " ".join((of, *options))


def digest(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


def header_of(path: Path) -> bytes:
    """All before the first tensor's data."""
    tensors = GgufFile(path).tensors.values()
    return path.read_bytes()[: min(tensor.offset for tensor in tensors)]


def numbers(count: int, seed: int) -> np.ndarray:
    """Numbers [count] in [-1, 1], more of them near 0, by SplitMix64."""
    with np.errstate(over="ignore"):
        z = (np.arange(count, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    unit = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return (unit * unit * unit).astype(np.float32)


def odd(rows: np.ndarray) -> np.ndarray:
    """`rows` [n, 256], of which the first are of all sizes, zeros, equal, of one sign, few, or ties."""
    rows[:16] *= np.float32(2) ** np.arange(-24, 8, 2, dtype=np.float32)[:, None]
    rows[16], rows[17, :40], rows[18], rows[19, 1::2] = 0, 0, -0.0, -0.0
    rows[20], rows[21], rows[22], rows[23] = 0.5, -0.5, np.abs(rows[22]), -np.abs(rows[23])
    rows[24], rows[25], rows[26, 8:] = np.rint(rows[24] * 4) / 4, np.rint(rows[25] * 3), 0
    rows[27] *= np.float32(2) ** np.repeat(np.arange(-120, 8, 16, dtype=np.float32), 32)
    rows[28], rows[29] = rows[28] * np.float32(1e-42), np.float32(1e-30)
    return rows


def shapes(n_blocks: int, tied: bool, heads: int = 2, hidden: int = HIDDEN) -> dict[str, tuple[int, ...]]:
    """The tensors of a model, in an order that is not llama-quantize's."""
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, WIDTH)}
    for n in range(n_blocks):
        found |= {
            f"blk.{n}.attn_norm.weight": (WIDTH,), f"blk.{n}.attn_q.weight": (heads * HEAD, WIDTH),
            f"blk.{n}.attn_k.weight": (HEAD, WIDTH), f"blk.{n}.attn_v.weight": (HEAD, WIDTH),
            f"blk.{n}.attn_output.weight": (WIDTH, heads * HEAD), f"blk.{n}.ffn_norm.weight": (WIDTH,),
            f"blk.{n}.ffn_gate.weight": (hidden, WIDTH), f"blk.{n}.ffn_up.weight": (hidden, WIDTH),
            f"blk.{n}.ffn_down.weight": (WIDTH, hidden),
        }  # fmt: skip
    return found | {"output_norm.weight": (WIDTH,)} | ({} if tied else {"output.weight": (VOCABULARY, WIDTH)})


def write_model(path: Path, n_blocks: int, tied: bool, heads: int = 2, hidden: int = HIDDEN) -> Path:
    """A model of the llama family; its numbers are odd where a matrix has rows enough, 0 with a head."""
    raw = RawFile()
    tokens = ["<unk>", "<s>", "</s>", *(chr(97 + n) for n in range(VOCABULARY - 3))]
    # What is said of an earlier quantisation is said anew.
    raw.set("general.file_type", U32, u32(0))
    raw.set("split.count", U16, u16(0))
    raw.set("general.architecture", STRING, text("llama"))
    raw.set("general.quantization_version", U32, u32(1))
    for key, value in {
        "block_count": n_blocks, "context_length": 64, "embedding_length": WIDTH,
        "feed_forward_length": hidden, "attention.head_count": heads, "attention.head_count_kv": 1,
        "attention.key_length": HEAD, "attention.value_length": HEAD, "rope.dimension_count": HEAD,
    }.items():  # fmt: skip
        raw.set(f"llama.{key}", U32, u32(value))
    raw.set("llama.attention.layer_norm_rms_epsilon", F32, f32(1e-5))
    raw.set("tokenizer.ggml.model", STRING, text("llama"))
    raw.set("tokenizer.ggml.tokens", 9, texts(tokens))
    raw.set("tokenizer.ggml.scores", 9, floats([-float(n) for n in range(VOCABULARY)]))
    raw.set("general.name", STRING, text("a model \u2192 to quantise"))
    _add_tensors(raw, shapes(n_blocks, tied, heads, hidden), tied)
    path.write_bytes(raw.pack())
    return path


def _add_tensors(raw: RawFile, of: dict[str, tuple[int, ...]], with_numbers: bool) -> None:
    parts = list[bytes]()
    for seed, (name, shape) in enumerate(of.items()):
        values = np.zeros(shape, np.float32)
        if with_numbers:
            values = numbers(int(np.prod(shape)), seed).reshape(shape)
            values = odd(values) if len(shape) > 1 and shape[0] > HEAD and shape[1] == WIDTH else values
        raw.tensors.append(RawTensor(name.encode(), list(shape[::-1]), 0, sum(map(len, parts))))
        parts.append(values.tobytes())
    raw.data = b"".join(parts)


def write_matrices(folder: Path, of: dict[str, tuple[int, ...]]) -> None:
    """Weights for the matrices of a model in both formats, but for one; some of them are 0."""
    names = [name for name, shape in of.items() if name.startswith("blk") and len(shape) > 1][1:]
    weights = {name: np.abs(numbers(of[name][-1], 1000 + n)) for n, name in enumerate(names)}
    for values in weights.values():
        values[5:9] = 0
    raw = RawFile()
    raw.set("general.type", STRING, text("imatrix"))
    raw.set("imatrix.datasets", 9, texts(["a text.txt", "another"]))
    raw.set("imatrix.chunk_count", U32, u32(7))
    raw.set("imatrix.chunk_size", U32, u32(512))
    for name, values in weights.items():
        count = np.float32(0 if name.endswith("attn_k.weight") else 7 * 512)
        for end, data in ((".in_sum2", values * count), (".counts", count[None])):
            raw.tensors.append(RawTensor((name + end).encode(), [len(data), 1], 0, len(raw.data)))
            raw.data += data.tobytes() + bytes(-data.nbytes % 32)
    (folder / MATRIX).write_bytes(raw.pack())
    entries = [_older(name, values) for name, values in weights.items()]
    end = struct.pack("<ii", 7, len(b"a text.txt")) + b"a text.txt"
    (folder / OLDER).write_bytes(struct.pack("<i", len(entries)) + b"".join(entries) + end)


def _older(name: str, values: np.ndarray) -> bytes:
    head = struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 7, len(values))
    return head + (values * np.float32(7)).astype(np.float32).tobytes()


def write_all(folder: Path) -> tuple[Path, Path, Path]:
    """SMALL, DEEP and LARGE, and the matrices of SMALL, some of which are those of DEEP's first blocks."""
    write_matrices(folder, shapes(2, True))
    return (
        write_model(folder / "small.gguf", 2, True),
        write_model(folder / "deep.gguf", 24, False),
        write_model(folder / "large.gguf", 80, False, heads=4, hidden=32),
    )


def record(program: str, version: str) -> None:
    """Run llama-quantize over everything and write what it made."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        small, deep, large = write_all(folder)

        def made(model: Path, of: str, options: tuple[str, ...]) -> Path:
            command = [program, *options, model.name, "out.gguf", of, "1"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            return folder / "out.gguf"

        whole = {
            label(of, options): digest(made(small, of, options).read_bytes())
            for of in WHOLE
            for options in ((), WITH_MATRIX, *([WITH_OLDER] if of == "Q4_0" else []))
        }
        headers = {
            label(of, options): digest(header_of(made(deep, of, options)))
            for of in TYPES
            for options in OPTIONS
        }
        large_headers = {label(of, ()): digest(header_of(made(large, of, ()))) for of in TYPES}
    data = {"llama-quantize": version, "whole": whole, "headers": headers, "large headers": large_headers}
    RECORDED.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    record(*sys.argv[1:])
