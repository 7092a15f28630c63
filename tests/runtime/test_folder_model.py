"""Models of transformers through ck: its logits, and the bits of the same model in a GGUF file."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import UnsupportedError, UsageError
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.architectures.outward import find_outward
from ck.frontend.decays import with_decays
from ck.frontend.model import open_file
from ck.runtime.resolve import resolve_model
from ck.runtime.weights import read_tensor
from ck.train.corpus import Document
from ck.train.export.gguf_file import export_gguf
from ck.train.export.source import StoredWeights
from ck.train.tokenizer_training import gguf_vocabulary, train_tokenizer
from tests.frontend.folders import (
    PROSE,
    PROSE_FILE,
    TEMPLATE,
    add_tokenizer,
    byte_level,
    write_folder,
)
from tests.frontend.random_models import N_VOCAB, random_weights, small

ROOT = Path(__file__).parents[2]
IDS = np.random.default_rng(3).integers(0, N_VOCAB, 100, dtype=np.int32).tolist()
# DESIGN's tier of logits against transformers.
MAX_ABS = 1e-3
# A decay -e^w is rounded by numpy in a file, by ck's own exponential in a program of the folder: one may be
# the other's neighbour. Logits then differ by their last bits (2e-6 of 4 measured), and by more where an
# input of a quantised product falls on the next of its steps (3e-4 measured).
LAST_BITS, NEXT_STEP = 1e-5, 2e-3
# Every family in f32; what a type does is the same in all.
CASES = [(arch, "float32") for arch in ARCHITECTURES]
CASES += [(arch, dtype) for arch in ("gemma3", "llama") for dtype in ("float16", "bfloat16")]


@cache
def vocabulary() -> dict[str, Any]:
    return gguf_vocabulary(train_tokenizer([Document(PROSE, PROSE_FILE, 1)], "bpe", N_VOCAB))


def torch_model(arch: str, path: Path, dtype: str = "float32") -> Any:
    """transformers' model of random weights, of this type."""
    import torch
    from transformers import AutoModelForCausalLM

    write_folder(path, small(arch, tied=arch != "llama"))
    return AutoModelForCausalLM.from_pretrained(
        path, dtype=getattr(torch, dtype), attn_implementation="eager"
    )


def logits(model: Any) -> np.ndarray:
    """transformers' in f32, whatever the type of the weights."""
    import torch

    with torch.no_grad():
        return model.float()(torch.tensor([IDS])).logits[0].numpy()


def as_gguf(model: Any, arch: str, path: Path, storage: str) -> Path:
    """The weights of transformers' model by way of ck's own export."""
    hp = small(arch, tied=arch != "llama")
    family = find_outward(arch)
    assert family is not None
    state = {name: values.detach().float().numpy() for name, values in model.named_parameters()}
    weights = family.from_huggingface(hp, {name: values.copy() for name, values in state.items()})
    export_gguf(path, hp, weights, vocabulary(), storage)
    return path


@pytest.mark.oracle
@pytest.mark.parametrize(("arch", "dtype"), CASES)
def test_a_folder_gives_transformers_logits_and_the_bits_of_its_gguf(
    arch: str, dtype: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    model = torch_model(arch, tmp_path / "first", dtype)
    folder = tmp_path / "saved"
    model.save_pretrained(folder, max_shard_size="40KB")
    assert (folder / "model.safetensors.index.json").is_file()
    file = open_file(folder)
    stored = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[dtype]
    assert {t.storage.name for t in file.tensors.values()} == {"f32", stored}
    ours = ck.compile(folder, kv="f32")(IDS)
    live = ck.compile(model, kv="f32")
    assert live.file.tensors["token_embd.weight"].storage.name == stored
    assert np.array_equal(live(IDS), ours)
    want = logits(model)
    gguf = as_gguf(model, arch, tmp_path / "model.gguf", stored)
    of_gguf = ck.compile(gguf, kv="f32")(IDS)
    atol = LAST_BITS if small(arch).recurrent_layers else 0
    np.testing.assert_allclose(of_gguf, ours, rtol=0, atol=atol)
    worst = float(np.abs(ours - want).max())
    measured(f"folder {arch} {dtype}: max abs {worst:.1e} of {np.abs(want).max():.1f}")
    assert worst <= MAX_ABS
    assert np.ptp(want) > 1


@pytest.mark.parametrize("quantize", ["q8_0", "q5_0", "q4_1"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_quantised_on_load_is_the_quantised_file(arch: str, quantize: str, tmp_path: Path) -> None:
    hp = small(arch)
    weights = random_weights(hp)
    folder = open_file(write_folder(tmp_path / "folder", hp), quantize)
    export_gguf(tmp_path / "model.gguf", hp, weights, vocabulary(), quantize)
    gguf = open_file(tmp_path / "model.gguf")
    _, factors = with_decays(folder.hyperparameters(), StoredWeights(folder), logarithms=False)
    assert factors.keys() == gguf.tensors.keys()
    for name, tensor in gguf.tensors.items():
        if name not in folder.tensors:
            # A decay, of which a folder has the logarithm.
            assert tensor.storage.name == "f32"
            assert np.array_equal(factors[name], read_tensor(gguf, name)), name
            continue
        assert folder.tensors[name].storage == tensor.storage
        whole = gguf.rows(name, 0, tensor.shape[0])
        # More rows than are quantised at a time, in pieces that divide nothing.
        pieces = [folder.rows(name, first, 150) for first in range(0, tensor.shape[0], 150)]
        assert np.array_equal(np.concatenate(pieces), whole), name


@pytest.mark.parametrize("backend", ["c", "llvm"])
@pytest.mark.parametrize("arch", ["gemma3", "qwen35"])
def test_quantised_on_load_computes_as_the_quantised_file(arch: str, backend: str, tmp_path: Path) -> None:
    hp = small(arch)
    weights = random_weights(hp, 1)
    folder = write_folder(tmp_path / "folder", hp, weights)
    export_gguf(tmp_path / "model.gguf", hp, weights, vocabulary(), "q8_0")
    ours = ck.compile(folder, quantize="q8_0", backend=backend)
    assert ours.info["model"]["quantize"] == "q8_0"
    want = ck.compile(tmp_path / "model.gguf", backend=backend)(IDS)
    np.testing.assert_allclose(ours(IDS), want, rtol=0, atol=NEXT_STEP if hp.recurrent_layers else 0)
    exact = ck.compile(folder, backend=backend)(IDS)
    assert 0 < np.abs(exact - want).max() < 1
    dequantised = ck.compile(folder, quantize="q8_0", dtype="f32", backend=backend)(IDS)
    assert not np.array_equal(dequantised, exact)
    np.testing.assert_allclose(dequantised, want, atol=5e-3)


def test_a_folder_is_compiled_once_and_anew_when_it_changes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", small("llama"))
    first = ck.compile(folder)
    assert ck.compile(folder).info["directory"] == first.info["directory"]
    assert first.info["model"]["files"][0]["name"] == "model.safetensors"
    assert resolve_model(first.info["directory"]) == Path(first.info["directory"]) / "model"
    assert np.array_equal(ck.compile(first.info["directory"])(IDS), first(IDS))
    other = write_folder(tmp_path / "other", small("llama"), random_weights(small("llama"), 1))
    os.replace(other / "model.safetensors", folder / "model.safetensors")
    second = ck.compile(folder)
    assert second.info["directory"] != first.info["directory"]
    assert not np.array_equal(second(IDS), first(IDS))


@pytest.mark.oracle
def test_a_live_model_talks_with_its_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=700, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    bare = ck.compile(model)
    assert bare([1, 2]).shape == (2, 700)
    with pytest.raises(
        UsageError, match=r"^LlamaForCausalLM: has no tokenizer for text; give ck.compile one"
    ):
        bare.generate("Hello")
    with pytest.raises(UsageError, match="the program was made of a model in memory; give the model itself"):
        ck.compile(bare.info["directory"])
    model.save_pretrained(tmp_path / "saved")
    add_tokenizer(tmp_path / "saved", byte_level(), chat_template=TEMPLATE)
    talking = ck.compile(model, tokenizer=AutoTokenizer.from_pretrained(tmp_path / "saved"))
    folder = ck.compile(tmp_path / "saved")
    said = talking.generate("Hello", max_tokens=8, temp=0)
    assert said == folder.generate("Hello", max_tokens=8, temp=0)
    assert talking.tokenizer.encode("Hello <s>") == folder.tokenizer.encode("Hello <s>")
    template = folder.chat_template
    assert template is not None
    assert template.render([{"role": "user", "content": "Hi"}]).startswith(
        "<s><|im_start|>user\nHi<|im_end|>"
    )


@pytest.mark.oracle
def test_objects_that_are_no_models_are_refused(tmp_path: Path) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaModel

    small_ = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 10}
    with pytest.raises(UnsupportedError, match=r"^GPT2LMHeadModel.config: field model_type must be one of"):
        ck.compile(GPT2LMHeadModel(GPT2Config(**small_)))
    config = LlamaConfig(
        vocab_size=10, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(
        UnsupportedError, match=r"field architectures must be \[LlamaForCausalLM\], found Llam"
    ):
        ck.compile(LlamaModel(config))
    with pytest.raises(UsageError, match="or a transformers model is required, found Linear"):
        ck.compile(torch.nn.Linear(2, 2))
    folder = write_folder(tmp_path / "folder", small("llama"))
    with pytest.raises(UsageError, match="tokenizer: a model on disk has its own; leave it out"):
        ck.compile(folder, tokenizer=object())


def ck_command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ck.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


def test_the_command_line_takes_folders(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", small("gemma3", n_vocab=700))
    add_tokenizer(folder, byte_level(), chat_template=TEMPLATE)
    shown = ck_command("show", folder, "--json", "--quantize", "q8_0")
    facts = json.loads(shown.stdout)
    assert (facts["name"], facts["model_type"]) == ("folder", "gemma3 Q8_0")
    assert {share["storage"] for share in facts["storage"]} == {"q8_0", "f32"}
    assert facts["tokenizer"]["kind"] == "byte_pairs"
    assert [end["text"] for end in facts["tokenizer"]["eog"]] == ["</s>", "<|im_end|>"]
    assert ck_command("show", folder, "--template").stdout == TEMPLATE + "\n"
    assert "byte_pairs tokenizer.json, adds BOS" in ck_command("show", folder).stdout
    done = ck_command("run", folder, "-p", "Hello", "-n", 4, "--temp", 0, "--quantize", "q8_0", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["prompt_ids"][:2] == [1, 3]
    assert len(answer["answer_ids"]) == 4
    wrong = ck_command("run", folder, "-p", "Hello", "--quantize", "iq3_s")
    assert wrong.returncode == 4
    assert wrong.stderr.splitlines()[-1].startswith("ck: quantize: ck makes q8_0, q5_1, ")
    exported = ck_command("export", folder, "--to", "gguf", "-o", tmp_path / "x.gguf")
    assert exported.returncode == 4
    assert "must be a training run or a GGUF file, found a model folder" in exported.stderr
    shutil.rmtree(folder)
