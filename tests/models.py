"""Models the tests run on: the two demo models, and small cuts of them.

A cut keeps real weights, real shapes and the real tokenizer, but only the first layers and, on request, only
the first rows of the vocabulary, so that a test takes seconds. Every kept tensor has the source file's bytes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, ReaderField, ReaderTensor

from ck.runtime.resolve import resolve_model

MODELS = ("smollm2-135m", "gemma3-270m")
# Layers that hold one whole attention pattern: Gemma's sixth layer is its first global one.
PATTERN_LAYERS = {"smollm2-135m": 2, "gemma3-270m": 6}
VOCABULARY_ARRAYS = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")
MERGES = "tokenizer.ggml.merges"


def model_path(name: str) -> Path:
    """The GGUF of a demo model: `$CK_TEST_MODELS/<name>.gguf` if set, else fetched as `ck pull` does."""
    folder = os.environ.get("CK_TEST_MODELS")
    if folder:
        return Path(folder) / f"{name}.gguf"
    return resolve_model(name)


def cut_model(path: Path, folder: Path, n_layers: int = 2, n_vocab: int | None = None) -> Path:
    """Write the first `n_layers` layers of the model at `path` to `folder` and return the new file.

    With `n_vocab` the embedding, the head and the token lists keep their first `n_vocab` rows. A file that is
    already there is used again: its name holds the source's name and size and both numbers.
    """
    source = path.stat()
    vocab = "" if n_vocab is None else f"-v{n_vocab}"
    out = folder / f"{path.stem}-{source.st_size}-l{n_layers}{vocab}.gguf"
    if out.exists():
        return out
    reader = GGUFReader(path)
    arch = str(reader.fields["general.architecture"].contents())
    partial = out.with_suffix(f".{os.getpid()}")
    writer = GGUFWriter(partial, arch)
    _copy_metadata(writer, reader.fields, arch, n_layers, n_vocab)
    for tensor in reader.tensors:
        if _layer(tensor.name) < n_layers:
            writer.add_tensor(tensor.name, _rows(tensor, n_vocab), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(out)
    return out


def _layer(name: str) -> int:
    """The layer a tensor belongs to; -1 outside the layers."""
    part = name.split(".")
    return int(part[1]) if part[0] == "blk" else -1


def _rows(tensor: ReaderTensor, n_vocab: int | None) -> np.ndarray:
    whole = n_vocab is None or tensor.name not in ("token_embd.weight", "output.weight")
    return tensor.data if whole else tensor.data[:n_vocab]


def _copy_metadata(
    writer: GGUFWriter, fields: Mapping[str, ReaderField], arch: str, n_layers: int, n_vocab: int | None
) -> None:
    changed: dict[str, Any] = {f"{arch}.block_count": n_layers}
    if n_vocab is not None:
        changed |= _cut_vocabulary(fields, n_vocab)
        if f"{arch}.vocab_size" in fields:
            changed[f"{arch}.vocab_size"] = n_vocab
    for key, field in fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind = field.types[0]
        item = field.types[-1] if kind is GGUFValueType.ARRAY else None
        value = changed[key] if key in changed else field.contents()
        writer.add_key_value(key, value, kind, sub_type=item)


def _cut_vocabulary(fields: Mapping[str, ReaderField], n_vocab: int) -> dict[str, Any]:
    """The token lists shortened to `n_vocab`, and the merges whose parts and whose result are all kept."""
    cut: dict[str, Any] = {k: fields[k].contents()[:n_vocab] for k in VOCABULARY_ARRAYS if k in fields}
    if MERGES in fields:
        kept = set(cut[VOCABULARY_ARRAYS[0]])
        merges = [merge.split(" ") for merge in fields[MERGES].contents()]
        cut[MERGES] = [f"{a} {b}" for a, b in merges if {a, b, a + b} <= kept]
    return cut
