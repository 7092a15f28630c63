"""A GGUF file of any shape with random weights, written one tensor after the other.

Matrices are random blocks of the file's storage type, drawn as bytes: a type whose blocks do not divide a row
gives way to Q8_0, as in files of llama.cpp, or to F32. Scales are such that a product keeps rows about as
long as they were. Gains, biases and decays are those of a new model.

    q8_0   32 numbers d q            q any int8                 d = 1 / (74 sqrt(K))
    q4_k   256 numbers 8 d (q - 7.5) q from 0 to 15, uniform    d = 1 / (8 * 4.6 sqrt(K))
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from ck.dtypes import BY_NAME, StorageType
from ck.frontend.architectures import find_architecture
from ck.frontend.architectures.outward import find_outward
from ck.frontend.decays import with_decays
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.initializers import initial_weights
from ck.train.corpus import Document
from ck.train.export.gguf_header import write_header
from ck.train.tokenizer_training import gguf_vocabulary, train_tokenizer

ALIGNMENT = 32
TEXT = Path(__file__).parents[1] / "tests" / "data" / "prose.txt"
N_LEARNT = 512
UNUSED = 5
ROWS_AT_A_TIME = 4096
# Of a q4_k block: eight scales of 8 and eight minima of 8, six bits each.
SCALES = bytes([8] * 8 + [0x88] * 4)


def write_model(path: Path, hp: HyperParameters, storage: str, seed: int = 0) -> int:
    """Write the model to `path`, its matrices as `storage`, q8_0 or q4_k. Returns its bytes."""
    architecture, family = find_architecture(hp.arch), find_outward(hp.arch)
    assert architecture is not None
    assert family is not None
    of_vectors = {name: shape for name, shape in architecture.tensor_shapes(hp).items() if len(shape) == 1}
    hp, drawn = with_decays(hp, initial_weights(of_vectors, "zeros", seed), logarithms=False)
    shapes, vectors = architecture.tensor_shapes(hp), dict(drawn)
    if hp.rope_divisors:
        vectors["rope_freqs.weight"] = np.array(hp.rope_divisors, np.float32)
        shapes = shapes | {"rope_freqs.weight": (len(hp.rope_divisors),)}
    stored = {name: storage_of(shape, storage) for name, shape in shapes.items()}
    keys = {"general.name": path.stem, **family.gguf_metadata(hp), **vocabulary(hp.n_vocab)}
    write_header(str(path), hp.arch, keys, shapes, {name: of.name for name, of in stored.items()})
    rng = np.random.default_rng(seed)
    with path.open("ab") as file:
        for name, shape in shapes.items():
            file.write(bytes(-file.tell() % ALIGNMENT))
            if name in vectors:
                file.write(vectors[name].tobytes())
            else:
                write_matrix(file, rng, shape, stored[name])
        file.write(bytes(-file.tell() % ALIGNMENT))
    return path.stat().st_size


def storage_of(shape: tuple[int, ...], storage: str) -> StorageType:
    """How a tensor is stored."""
    fitting = (name for name in (storage, "q8_0") if shape[-1] % BY_NAME[name].block == 0)
    return BY_NAME["f32" if len(shape) == 1 else next(fitting, "f32")]


def vocabulary(n_vocab: int) -> dict[str, Any]:
    """A small tokenizer's keys, with tokens that nothing spells up to `n_vocab`."""
    keys = gguf_vocabulary(train_tokenizer([Document(TEXT.read_text(), TEXT, 1)], "bpe", N_LEARNT))
    rest = n_vocab - N_LEARNT
    keys["tokenizer.ggml.tokens"] = [*keys["tokenizer.ggml.tokens"], *(f"<{n}>" for n in range(rest))]
    keys["tokenizer.ggml.token_type"] = [*keys["tokenizer.ggml.token_type"], *[UNUSED] * rest]
    return keys


def write_matrix(file: Any, rng: np.random.Generator, shape: tuple[int, ...], of: StorageType) -> None:
    """Random blocks, some rows at a time."""
    n_rows, n_columns = shape
    for start in range(0, n_rows, ROWS_AT_A_TIME):
        n_blocks = min(ROWS_AT_A_TIME, n_rows - start) * (n_columns // of.block)
        file.write(blocks(rng, n_blocks, n_columns, of).tobytes())


def blocks(rng: np.random.Generator, n: int, n_columns: int, of: StorageType) -> Any:
    """`n` blocks of a matrix whose rows have `n_columns`: [n, bytes of a block] u8, or [n] f32."""
    if of.name == "f32":
        return rng.standard_normal(n, np.float32) / np.float32(math.sqrt(n_columns))
    made = np.frombuffer(rng.bytes(n * of.file_bytes), np.uint8).reshape(n, of.file_bytes).copy()
    if of.name == "q8_0":
        made[:, :2] = as_bytes(1 / (74 * math.sqrt(n_columns)))
        return made
    step = 1 / (8 * 4.6 * math.sqrt(n_columns))
    made[:, :2], made[:, 2:4] = as_bytes(step), as_bytes(7.5 * step)
    made[:, 4:16] = np.frombuffer(SCALES, np.uint8)
    return made


def as_bytes(value: float) -> Any:
    """The two bytes of an f16."""
    return np.frombuffer(np.float16(value).tobytes(), np.uint8)
