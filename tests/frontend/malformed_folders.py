"""Ways to break a model folder, and the error that each must be."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from ck.errors import CkError, MalformedError, UnsupportedError, UsageError

Q, HEAD = "model.layers.0.self_attn.q_proj.weight", "lm_head.weight"
SHARD = "model-1.safetensors"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def tensors_of(path: Path) -> dict[str, Any]:
    return dict(load_file(path / WHOLE))


def shard(path: Path, n_shards: int = 3, **index: Any) -> None:
    """Spread the folder's tensors over files."""
    tensors = tensors_of(path)
    (path / WHOLE).unlink()
    files = {name: f"model-{n % n_shards}.safetensors" for n, name in enumerate(tensors)}
    for file in set(files.values()):
        part = {name: values for name, values in tensors.items() if files[name] == file}
        (path / file).write_bytes(save(part))
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files} | index))


Break = Callable[[Path], object]


def config(**changes: Any) -> Break:
    def change(path: Path) -> None:
        file = path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def text(name: str, content: str | bytes) -> Break:
    return lambda path: (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def tensors(**changes: Any) -> Break:
    """Give tensors other values; None takes one away."""

    def change(path: Path) -> None:
        names = {"q": Q, "norm": "model.norm.weight", "bias": Q.replace("weight", "bias"), "head": HEAD}
        all_ = tensors_of(path) | {names[key]: values for key, values in changes.items()}
        kept = {name: values for name, values in all_.items() if values is not None}
        (path / WHOLE).write_bytes(save(kept))

    return change


def header(change: Callable[[dict[str, Any]], object]) -> Break:
    """Rewrite the header of the tensors' file."""

    def apply(path: Path) -> None:
        data = (path / WHOLE).read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        fields = json.loads(data[8:end])
        change(fields)
        new = json.dumps(fields).encode()
        (path / WHOLE).write_bytes(len(new).to_bytes(8, "little") + new + data[end:])

    return apply


def entry(**changes: Any) -> Break:
    return header(lambda fields: fields[Q].update(changes))


def index(content: Any) -> Break:
    def apply(path: Path) -> None:
        shard(path)
        (path / INDEX).write_text(content if isinstance(content, str) else json.dumps(content))

    return apply


def mapped(*files: Any) -> Break:
    return index({"weight_map": {f"tensor {n}": file for n, file in enumerate(files)}})


def sharded(change: Callable[[Path], object]) -> Break:
    def apply(path: Path) -> None:
        shard(path)
        change(path)

    return apply


def twice(path: Path) -> None:
    (path / "model-0.safetensors").write_bytes((path / SHARD).read_bytes())


def cut(n_bytes: int) -> Break:
    def apply(path: Path) -> None:
        with (path / WHOLE).open("r+b") as file:
            file.truncate(n_bytes if n_bytes >= 0 else (path / WHOLE).stat().st_size + n_bytes)

    return apply


def replaced(name: str, make: Callable[[Path], object]) -> Break:
    def apply(path: Path) -> None:
        (path / name).unlink()
        make(path / name)

    return apply


def pickle_only(path: Path) -> None:
    (path / WHOLE).rename(path / "pytorch_model.bin")


F32 = np.float32
M, U = MalformedError, UnsupportedError
BROKEN: dict[str, tuple[type[CkError], str, Break]] = {
    "config cut": (M, "config.json: must be JSON: ", text("config.json", '{"model_type"')),
    "config list": (M, "config.json: must be a JSON object, found a list of 1", text("config.json", "[1]")),
    "config bytes": (M, "config.json: must be UTF-8, byte 1 is not", text("config.json", b'"\xff"')),
    "config deep": (
        M,
        "config.json: must be JSON: it is nested too deep",
        text("config.json", "[" * 200_000),
    ),
    "config digits": (M, "config.json: must be JSON: ", text("config.json", '{"a": ' + "9" * 5000 + "}")),
    "config large": (
        M,
        "must have at most 1048576 bytes, found 1048577",
        text("config.json", " " * (2**20 + 1)),
    ),
    "config pipe": (UsageError, "must be a regular file", replaced("config.json", os.mkfifo)),
    "config none": (
        UsageError,
        "the file cannot be read: No such",
        replaced("config.json", lambda path: None),
    ),
    "family": (U, "field model_type must be one of", config(model_type="gpt_oss")),
    "class": (U, "field architectures must be [LlamaForCausalLM]", config(architectures=["LlamaModel"])),
    "quantised": (
        U,
        "field quantization_config must be absent, found an object",
        config(quantization_config={}),
    ),
    "bias": (U, "field attention_bias must be absent or false", config(attention_bias=True)),
    "nan": (
        M,
        "field rms_norm_eps must be a finite number above 0, found nan",
        config(rms_norm_eps=float("nan")),
    ),
    "layers": (M, "tensor model.layers.2.self_attn.q_proj.weight is required", config(num_hidden_layers=3)),
    "fewer layers": (U, "model.layers.1.", config(num_hidden_layers=1)),
    "width": (M, "must be [317, 32], found [317, 64]", config(hidden_size=32)),
    "vocabulary": (M, "must be [318, 64], found [317, 64]", config(vocab_size=318)),
    "untied": (M, "tensor lm_head.weight is required, the model has none", config(tie_word_embeddings=False)),
    "no weights": (
        M,
        "must have model.safetensors or model.safetensors.index",
        lambda p: (p / WHOLE).unlink(),
    ),
    "pickle": (U, "found pytorch_model.bin, a pickle, which runs code when it is read", pickle_only),
    "weights folder": (UsageError, "must be a regular file", replaced(WHOLE, Path.mkdir)),
    "empty": (M, "a safetensors file takes 8 bytes, found 0", cut(0)),
    "seven": (M, "a safetensors file takes 8 bytes, found 7", cut(7)),
    "short": (M, "must be safetensors: ", cut(-4)),
    "header cut": (M, "the header must end by byte 100, it ends at ", cut(100)),
    "header huge": (M, "the header must end by byte", text(WHOLE, b"\xff" * 16)),
    "header long": (M, "the header must end by byte 8, it ends at 9", text(WHOLE, (1).to_bytes(8, "little"))),
    "header text": (M, "must be safetensors: ", text(WHOLE, (2).to_bytes(8, "little") + b"[]")),
    "header bytes": (M, "must be safetensors: ", text(WHOLE, (2).to_bytes(8, "little") + b"\xff\xff")),
    "offsets past": (M, "must be safetensors: ", entry(data_offsets=[0, 1 << 40])),
    "offsets back": (M, "must be safetensors: ", entry(data_offsets=[8, 4])),
    "offsets minus": (M, "must be safetensors: ", entry(data_offsets=[-4, 4])),
    "offsets over": (M, "must be safetensors: ", entry(data_offsets=[0, 128 * 64 * 4])),
    "shape huge": (M, "must be safetensors: ", entry(shape=[1 << 62, 1 << 62])),
    "shape text": (M, "must be safetensors: ", entry(shape="128")),
    "type unknown": (M, "must be safetensors: ", entry(dtype="F33")),
    "type i64": (
        U,
        f"tensor {Q} must be F32, F16, BF16, found I64",
        tensors(q=np.zeros((128, 64), np.int64)),
    ),
    "type f64": (U, f"tensor {Q} must be F32, F16, BF16, found F64", tensors(q=np.zeros((128, 64)))),
    "type f8": (M, "must be safetensors: ", entry(dtype="F8_E4M3")),
    "missing": (M, f"tensor {Q} is required, the model has none", tensors(q=None)),
    "transposed": (M, f"tensor {Q} must be [128, 64], found [64, 128]", tensors(q=np.zeros((64, 128), F32))),
    "flat": (M, f"tensor {Q} must be [128, 64], found [8192]", tensors(q=np.zeros(8192, F32))),
    "no elements": (M, "tensor model.norm.weight must have elements", tensors(norm=np.zeros(0, F32))),
    "a bias": (U, "belongs to a variant that ck does not have", tensors(bias=np.zeros(128, F32))),
    "index cut": (M, "model.safetensors.index.json: must be JSON: ", index("{")),
    "index list": (M, "must be a JSON object, found a list of 0", index([])),
    "index without map": (M, "weight_map must be an object, found null", index({})),
    "index empty": (M, "weight_map must name 1 to 4096 files, found 0", index({"weight_map": {}})),
    "index up": (M, "must name safetensors files of the folder, found ../x.saf", mapped("../x.safetensors")),
    "index root": (M, "must name safetensors files of the folder, found /etc/p", mapped("/etc/passwd")),
    "index dots": (M, "must name safetensors files of the folder, found ..", mapped("..")),
    "index number": (M, "must name safetensors files of the folder, found 3", mapped(3)),
    "index pickle": (M, "must name safetensors files of the folder, found a.bin", mapped("a.bin")),
    "index many": (
        M,
        "weight_map must name 1 to 4096 files, found 5000",
        mapped(*(f"{n}.safetensors" for n in range(5000))),
    ),
    "shard missing": (
        M,
        "weight_map names model-1.safetensors, which is not there; download it",
        sharded(lambda p: (p / SHARD).unlink()),
    ),
    "shard twice": (M, "must be in one file, model-0.safetensors has it too", sharded(twice)),
    "shard cut": (
        M,
        "model-1.safetensors: a safetensors file takes 8 bytes",
        sharded(lambda p: (p / SHARD).write_bytes(b"")),
    ),
}
