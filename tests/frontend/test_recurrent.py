"""Headers and folders of models with recurrent layers: each wrong value by its name, what is left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from ck.cli.summary import plan_memory
from ck.errors import CkError, MalformedError, UnsupportedError
from ck.frontend.decays import with_decays
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model import GgufModel, open_model
from ck.runtime.weights import read_tensor
from ck.train.export.gguf_file import export_gguf
from ck.train.export.source import StoredWeights, read_hyperparameters
from tests.frontend.folders import write_folder
from tests.frontend.random_models import random_weights, small
from tests.frontend.raw_gguf import (
    ARRAY,
    BOOL,
    F32,
    U32,
    RawFile,
    RawTensor,
    f32,
    integers,
    parse,
    u32,
    u64,
)

ARCH = "qwen35"
TOKENS = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.tokens": ["a", "b", "ab", *(f"<{n}>" for n in range(314))],
    "tokenizer.ggml.token_type": [1, 1, 1, *[3] * 314],
}


def hp_of(**changes: Any) -> HyperParameters:
    return small(ARCH, n_layers=4, recurrent_layers=(True, True, False, False), **changes)


@pytest.fixture
def raw(tmp_path: Path) -> RawFile:
    """A file of four layers, listed."""
    export_gguf(tmp_path / "model.gguf", hp_of(), random_weights(hp_of()), TOKENS)
    return parse((tmp_path / "model.gguf").read_bytes())


def opened(raw: RawFile, path: Path) -> GgufModel:
    path.write_bytes(raw.pack())
    return GgufModel(path)


def bools(*values: bool) -> bytes:
    return u32(BOOL) + u64(len(values)) + bytes(values)


def test_the_pattern_is_listed_or_an_interval(raw: RawFile, tmp_path: Path) -> None:
    key = f"{ARCH}.attention.recurrent_layers"
    assert opened(raw, tmp_path / "a.gguf").hyperparameters().recurrent_layers == (True, True, False, False)
    raw.remove(key)
    raw.set(f"{ARCH}.full_attention_interval", U32, u32(3))
    # Every third attends: now the file has other tensors than it should.
    with pytest.raises(MalformedError, match=r"tensor blk\.3\.attn_qkv\.weight is required"):
        opened(raw, tmp_path / "b.gguf").hyperparameters()
    raw.set(key, ARRAY, bools(True, True, False, False))
    assert opened(raw, tmp_path / "c.gguf").hyperparameters().attention_layers == (2, 3)


@pytest.mark.parametrize(
    ("key", "kind", "payload", "words"),
    [
        ("ssm.conv_kernel", U32, u32(1), "must be from 2 to 8, found 1"),
        ("ssm.conv_kernel", U32, u32(9), "must be from 2 to 8, found 9"),
        ("ssm.state_size", U32, u32(0), "must be from 1 to 256, found 0"),
        ("ssm.group_count", U32, u32(3), "must be a divisor of 4, found 3"),
        ("ssm.group_count", U32, u32(5), "must be from 1 to 4, found 5"),
        ("ssm.time_step_rank", U32, u32(0), "must be from 1 to 1024, found 0"),
        ("ssm.time_step_rank", U32, u32(10), "must be a divisor of 96, found 10"),
        ("ssm.inner_size", F32, f32(96), "must be an integer"),
        ("attention.recurrent_layers", ARRAY, bools(True, False), "must list 4 blocks, found 2"),
        ("attention.recurrent_layers", ARRAY, integers([1, 1, 0, 0]), "must be an array of bools"),
        ("nextn_predict_layers", U32, u32(4), "must be from 0 to 3, found 4"),
        ("rope.dimension_count", U32, u32(7), "must be even, found 7"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(
    key: str, kind: int, payload: bytes, words: str, raw: RawFile, tmp_path: Path
) -> None:
    raw.set(f"{ARCH}.{key}", kind, payload)
    with pytest.raises(MalformedError, match=rf"key {ARCH}\.{key} {words}"):
        opened(raw, tmp_path / "wrong.gguf").hyperparameters()


@pytest.mark.parametrize("key", ["conv_kernel", "state_size", "group_count", "time_step_rank", "inner_size"])
def test_a_missing_value_is_named(key: str, raw: RawFile, tmp_path: Path) -> None:
    raw.remove(f"{ARCH}.ssm.{key}")
    with pytest.raises(MalformedError, match=rf"key {ARCH}\.ssm\.{key} is required"):
        opened(raw, tmp_path / "without.gguf").hyperparameters()


def test_blocks_that_predict_further_tokens_are_left_out(raw: RawFile, tmp_path: Path) -> None:
    whole = opened(raw, tmp_path / "whole.gguf")
    raw.set(f"{ARCH}.block_count", U32, u32(5))
    raw.set(f"{ARCH}.nextn_predict_layers", U32, u32(1))
    raw.set(f"{ARCH}.attention.recurrent_layers", ARRAY, bools(True, True, False, False, False))
    extra = ("blk.4.attn_norm.weight", "blk.4.nextn.eh_proj.weight", "blk.4.nextn.enorm.weight")
    offset = len(raw.data)
    for name in extra:
        raw.tensors.append(RawTensor(name.encode(), [64], 0, offset))
        offset += 256
    raw.data += bytes(offset - len(raw.data))
    model = opened(raw, tmp_path / "model.gguf")
    assert model.hyperparameters() == whole.hyperparameters()
    assert model.skipped == extra
    assert {*StoredWeights(model)} == {*whole.tensors}
    raw.tensors[-1].name = b"blk.3.nextn.enorm.weight"
    with pytest.raises(UnsupportedError, match=r"blk\.3\.nextn\.enorm\.weight belongs to a variant"):
        opened(raw, tmp_path / "other.gguf").hyperparameters()


def test_a_trained_models_decays_become_factors_in_a_file(tmp_path: Path) -> None:
    weights = random_weights(hp_of())
    export_gguf(tmp_path / "model.gguf", hp_of(), weights, TOKENS)
    model = GgufModel(tmp_path / "model.gguf")
    assert model.hyperparameters() == hp_of(log_decay=False)
    assert np.array_equal(read_tensor(model, "blk.1.ssm_a"), -np.exp(weights["blk.1.ssm_a_log"]))
    hp, back = with_decays(model.hyperparameters(), StoredWeights(model), logarithms=True)
    assert hp == hp_of()
    assert back.keys() == weights.keys()
    np.testing.assert_allclose(back["blk.1.ssm_a_log"], weights["blk.1.ssm_a_log"], rtol=1e-6, atol=1e-6)
    assert with_decays(hp, weights, logarithms=True) == (hp, weights)


def test_the_memory_plan_counts_states_and_caches_of_layers_that_attend(tmp_path: Path) -> None:
    source = open_model(write_folder(tmp_path / "folder", hp_of()))
    plan = plan_memory(source.file, source.hp, 128, 64, "f16", None)
    channels = 2 * 2 * 16 + 4 * 24
    assert plan.state_bytes == 2 * 4 * (3 * channels + 4 * 16 * 24)
    assert plan.kv_bytes == 2 * 128 * 2 * 2 * 32 * 2
    assert plan.total_bytes == plan.weights_bytes + plan.kv_bytes + plan.state_bytes


def test_filters_stay_f32_in_a_quantised_file(tmp_path: Path) -> None:
    export_gguf(tmp_path / "model.gguf", hp_of(), random_weights(hp_of()), TOKENS, "q8_0")
    tensors = GgufModel(tmp_path / "model.gguf").tensors
    assert tensors["blk.0.ssm_conv1d.weight"].storage.name == "f32"
    assert tensors["blk.0.attn_qkv.weight"].storage.name == "q8_0"


def seeing(path: Path) -> Path:
    """A folder of a model that sees, in which the language model is that of `hp_of`."""
    write_folder(path, hp_of())
    config = json.loads((path / "config.json").read_text())
    text = {**config, "eos_token_id": None}
    del text["architectures"], text["tie_word_embeddings"]
    whole = {
        "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "text_config": text,
        "vision_config": {"depth": 1}, "tie_word_embeddings": True,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(whole))
    tensors = load_file(path / "model.safetensors")
    renamed = {name.replace("model.", "model.language_model.", 1): values for name, values in tensors.items()}
    others = {
        "model.visual.patch_embed.proj.weight": np.ones((2, 2), np.float32),
        "mtp.norm.weight": np.ones(64),
    }
    (path / "model.safetensors").write_bytes(save(renamed | others))
    return path


def test_of_a_model_that_sees_the_language_model_is_read(tmp_path: Path) -> None:
    source = open_model(seeing(tmp_path / "model"))
    assert source.hp == hp_of()
    assert {*source.file.skipped} == {"model.visual.patch_embed.proj.weight", "mtp.norm.weight"}
    for name, values in random_weights(hp_of()).items():
        assert np.allclose(read_tensor(source.file, name), values, rtol=0, atol=2**-24), name


@pytest.mark.parametrize(
    ("field", "value", "kind", "words"),
    [
        ("layer_types", ["full_attention"], MalformedError, "field layer_types must list 4 layers"),
        ("layer_types", ["sliding_attention"] * 4, UnsupportedError, "found sliding_attention"),
        ("linear_num_key_heads", 3, MalformedError, "field linear_num_key_heads must divide the 4 heads"),
        (
            "linear_key_head_dim",
            257,
            MalformedError,
            "field linear_key_head_dim must be a whole number from 1 to 256",
        ),
        (
            "linear_conv_kernel_dim",
            1,
            MalformedError,
            "field linear_conv_kernel_dim must be a whole number from 2",
        ),
        ("rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 0.1}, MalformedError, "found 0.1"),
        ("rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": "x"}, MalformedError, "found x"),
        ("hidden_act", "gelu", UnsupportedError, "field hidden_act must be absent or silu"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(
    field: str, value: Any, kind: type[CkError], words: str, tmp_path: Path
) -> None:
    path = write_folder(tmp_path / "folder", hp_of())
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(kind, match=words):
        open_model(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recurrent_layers": [True]}, "recurrent layers must be those of 4 layers"),
        ({"recurrent_layers": [1, 0, 1, 0]}, "recurrent_layers must be a list of true and false"),
        ({"n_state_keys": 3}, "recurrent layers must be those of 4 layers"),
        ({"conv_taps": 9}, "conv_taps must be a whole number in range, found 9"),
        ({"log_decay": 1}, "log_decay must be true or false, found 1"),
    ],
)
def test_a_runs_record_is_checked(changes: dict[str, Any], words: str) -> None:
    record = json.loads(json.dumps(vars(hp_of())))
    assert read_hyperparameters(record, "run.json") == hp_of()
    with pytest.raises(MalformedError, match=words):
        read_hyperparameters({**record, **changes}, "run.json")
