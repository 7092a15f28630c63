"""Model folders: what is read of them, under which names and in which types, and what is refused."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from ck.errors import CkError, UnsupportedError, UsageError
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.huggingface.folder import FolderModel
from ck.frontend.model import open_file, open_model
from ck.runtime.weights import read_tensor
from tests.frontend.folders import add_tokenizer, byte_level, write_folder
from tests.frontend.malformed_folders import BROKEN, HEAD, WHOLE, shard, tensors_of
from tests.frontend.random_models import random_weights, small


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_tensors_have_ggufs_names_and_conventions(arch: str, tied: bool, tmp_path: Path) -> None:
    hp = small(arch, tied=tied)
    path = write_folder(tmp_path / "folder", hp)
    source = open_model(path)
    assert source.hp == hp
    weights = random_weights(hp)
    assert source.file.tensors.keys() == weights.keys()
    for name, values in weights.items():
        assert np.array_equal(read_tensor(source.file, name), values), name
        part = source.file.rows(name, 3, 5).view(np.float32).reshape(-1, *values.shape[1:])
        assert np.array_equal(part, values[3:8]), name
        source.file.drop_rows(name, 3, 5)
        assert np.array_equal(read_tensor(source.file, name), values), name


def test_shards_are_one_model(tmp_path: Path) -> None:
    hp = small("llama")
    whole = FolderModel(write_folder(tmp_path / "whole", hp))
    path = write_folder(tmp_path / "shards", hp)
    shard(path)
    sharded = FolderModel(path)
    assert len(sharded.record()["files"]) == 3
    for name in whole.tensors:
        assert np.array_equal(read_tensor(sharded, name), read_tensor(whole, name)), name


def test_what_computes_nothing_may_lie_there(tmp_path: Path) -> None:
    """A head where it is the embedding, and buffers that older releases saved."""
    hp = small("llama")
    path = write_folder(tmp_path / "folder", hp)
    extra = {HEAD: np.ones((2, 2)), "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(16)}
    (path / WHOLE).write_bytes(save(tensors_of(path) | extra))
    assert FolderModel(path).hyperparameters() == hp


def test_k_types_fall_back_where_rows_do_not_fit(tmp_path: Path) -> None:
    """As llama.cpp has it; read back they are near what was stored."""
    path = write_folder(tmp_path / "folder", small("llama", d_ffn=256))
    plain, quantized = FolderModel(path), FolderModel(path, "q4_k")
    names = {name: tensor.storage.name for name, tensor in quantized.tensors.items()}
    assert (names["blk.0.ffn_down.weight"], names["blk.0.ffn_up.weight"]) == ("q4_k", "q5_0")
    assert names["blk.0.attn_norm.weight"] == "f32"
    for name, storage in names.items():
        want, found = read_tensor(plain, name), read_tensor(quantized, name)
        part = ((want - found) ** 2).sum() / (want**2).sum()
        assert part <= {"f32": 0, "q5_0": 0.003, "q4_k": 0.012}[storage], name
    assert FolderModel(path, "q6_k").tensors["blk.0.ffn_up.weight"].storage.name == "q8_0"
    # One model, and one program, however the type is written.
    assert FolderModel(path, "Q6_K").record() == FolderModel(path, "q6_k").record()


def test_the_digest_changes_with_what_is_read_and_no_tensor_is(tmp_path: Path) -> None:
    hp = small("llama")
    path = write_folder(tmp_path / "folder", hp)
    first = FolderModel(path).header_digest()
    assert FolderModel(path).header_digest() == first
    assert FolderModel(path, "q8_0").header_digest() != first
    file = path / WHOLE
    os.utime(file, ns=(0, 0))
    touched = FolderModel(path).header_digest()
    assert touched != first
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"rope_parameters": {"rope_theta": 5e5}}))
    os.utime(file, ns=(0, 0))
    assert FolderModel(path).header_digest() not in (first, touched)


def test_folders_open_fast(tmp_path: Path, measured: Callable[[str], None]) -> None:
    hp = small("llama", n_layers=200)
    path = write_folder(tmp_path / "folder", hp)
    shard(path, 40)
    start = time.process_time()
    FolderModel(path).header_digest()
    ms = 1e3 * (time.process_time() - start)
    measured(f"open a folder of {len(random_weights(hp))} tensors in 40 files: {ms:.0f} ms")
    assert ms < 1000


TYPES = "q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl, q6_k, q5_k, q4_k, q3_k, q2_k, iq4_xs"


@pytest.mark.parametrize(
    ("quantize", "error", "words"),
    [
        ("iq3_s", UnsupportedError, f"quantize: ck makes {TYPES} on load, found iq3_s; "),
        ("int8", UsageError, f"quantize: one of {TYPES} is required, found int8"),
        ("IQ3_S", UnsupportedError, f"quantize: ck makes {TYPES} on load, found IQ3_S; "),
    ],
)  # fmt: skip
def test_types_that_ck_does_not_make_are_refused(
    quantize: str, error: type[CkError], words: str, tmp_path: Path
) -> None:
    path = write_folder(tmp_path / "folder", small("llama"))
    with pytest.raises(error) as caught:
        open_file(path, quantize)
    assert words in str(caught.value)


def test_rows_that_are_no_blocks_are_not_quantised(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "folder", small("llama", d_ffn=90))
    with pytest.raises(
        UsageError, match=r"^folder: rows of model.layers.0.mlp.down_proj.weight must be multip"
    ):
        FolderModel(path, "q8_0")
    with pytest.raises(UsageError) as caught:
        open_file(tmp_path / "model.gguf", "q8_0")
    assert str(caught.value) == (
        "model.gguf: must be a model folder to be quantised on load, it is a file; "
        "for a file run: ck quantize IN OUT --type TYPE"
    )


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_clear_error(name: str, tmp_path: Path) -> None:
    error, words, change = BROKEN[name]
    path = write_folder(tmp_path / "folder", small("llama"))
    change(path)
    with pytest.raises(error) as caught:
        FolderModel(path)
    assert str(caught.value).startswith("folder")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_file_counts_before_an_index(tmp_path: Path) -> None:
    """As for transformers: what an interrupted download of shards left does not matter."""
    path = write_folder(tmp_path / "folder", small("llama"))
    (path / "model.safetensors.index.json").write_text("{}")
    assert [file["name"] for file in FolderModel(path).record()["files"]] == [WHOLE]


@pytest.mark.parametrize("name", [WHOLE, "config.json", "tokenizer.json"])
def test_changed_bytes_give_a_model_or_one_error(name: str, tmp_path: Path) -> None:
    path = add_tokenizer(write_folder(tmp_path / "folder", small("llama", n_vocab=700)), byte_level())
    whole = (path / name).read_bytes()
    rng = np.random.default_rng(5)
    errors: list[str] = []
    for _ in range(150):
        data = bytearray(whole)
        # What is read of tensors is their header, at the start.
        for at in rng.integers(0, min(len(data), 2500), rng.integers(1, 4)):
            data[at] = rng.integers(0, 256)
        (path / name).write_bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.2 else data)
        try:
            model = FolderModel(path)
            model.header_digest()
            model.tokenizer().encode("a word")
        except CkError as error:
            errors.append(str(error))
    assert errors
    assert not any("\n" in error for error in errors)
