"""Runs that begin with a model: all of its weights, or adapters beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import ck
from ck.errors import MalformedError, ResourceError, UnsupportedError, UsageError
from ck.frontend.huggingface.peft import CONFIG, TENSORS, read_adapter
from ck.frontend.model import GgufModel, open_file
from ck.train.export.gguf_file import export_gguf
from ck.train.export.peft import export_peft
from ck.train.export.source import MergedWeights, StoredWeights, source_of_gguf, source_of_run
from ck.train.parity.report import parity
from ck.train.promotion import promote
from ck.train.runs import resume
from tests.train.bases import CHAT, PROSE, weights_of, write_base
from tests.train.small_runs import assert_equal_runs, template, tensors

RUN: dict[str, Any] = {
    "data": ["c.txt"], "steps": 4, "seq_len": 32, "batch": 2, "save_every": 2, "eval_every": 2, "lr": 1e-3,
    "threads": 1,
}  # fmt: skip
LORA = {"lora": "r=4,alpha=6,targets=q,v,down"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.txt").write_text(PROSE[:6000])


def quiet(line: str) -> None:
    """Who is told of skipped checkpoints."""


def start(run: str, base: Path, **changes: Any) -> Any:
    return ck.train(run, base=base, **(RUN | changes))


def test_a_run_begins_with_the_weights_and_keeps_the_tokenizer() -> None:
    base = write_base(Path("base.gguf"), storage="q8_0")
    start("./run", base)
    first, stored = tensors(Path("run"), 0), StoredWeights(open_file(base))
    assert all(np.array_equal(first[name], stored[name]) for name in stored)
    base.unlink()
    # Nothing of the model is needed now.
    resume("./run", flags={"steps": 5})
    made = GgufModel(promote("./run", 5, quiet))
    assert made.chat_template == CHAT
    whole = tensors(Path("run"), 5)
    weights = StoredWeights(made)
    assert all(np.array_equal(whole[name], weights[name]) for name in weights)
    assert ck.compile("./run", context_len=64).generate("the", max_tokens=2, temp=0) is not None
    # A fine-tuned model is a base in its turn.
    assert start("./next", Path("run"), steps=1).step == 1


def test_decays_that_a_file_holds_as_factors_are_trained_as_logarithms() -> None:
    """In a GGUF file a decay is -e^w; what training moves is w, as transformers has it."""
    base = write_base(Path("base.gguf"), "qwen35")
    start("./run", base)
    first, last = tensors(Path("run"), 0), tensors(Path("run"), 4)
    logarithms = [name for name in first if name.startswith("blk.") and name.endswith("ssm_a_log")]
    stored = StoredWeights(open_file(base))
    assert len(logarithms) == len([name for name in stored if name.endswith("ssm_a")]) > 0
    for name in logarithms:
        factor = stored[name.removesuffix("_log")]
        np.testing.assert_allclose(-np.exp(first[name]), factor, rtol=1e-6)
        assert (first[name] != last[name]).all()
    start("./low", base, lora="r=2", steps=1)
    promote("./run", 4, quiet)
    assert ck.compile("./run", context_len=64).generate("the", max_tokens=2, temp=0) is not None


def test_a_resumed_run_with_adapters_is_the_run() -> None:
    base = write_base(Path("base.gguf"))
    start("./straight", base, **LORA)
    start("./parts", base, **LORA | {"steps": 2})
    resume("./parts", flags={"steps": 4})
    parts, straight = tensors(Path("parts"), 4), tensors(Path("straight"), 4)
    # The schedule is of the run's length, so the first steps differ: resumed again, nothing does.
    assert parts.keys() == straight.keys()
    kept = {name for name in straight if not name.startswith("adam_")}
    assert len(kept) == 2 * 3 * 2
    assert all(name.endswith(("lora_a", "lora_b")) for name in straight)
    (Path("straight") / "checkpoints" / "step-4" / "state.json").write_text("{}")
    resume("./straight")
    start("./again", base, **LORA)
    assert_equal_runs(Path("straight"), Path("again"), 4)


def test_another_model_in_the_base_s_place_is_refused() -> None:
    base = write_base(Path("base.gguf"))
    start("./run", base, **LORA, steps=2)
    base.unlink()
    write_base(base, layers=1)
    with pytest.raises(UsageError, match=r"base.gguf: must be the model that .*run began with"):
        resume("./run", flags={"steps": 3})
    base.unlink()
    with pytest.raises(UsageError, match="needs the model that it began with, there is no"):
        resume("./run", flags={"steps": 3})


def test_an_adapter_leaves_comes_back_merges_and_unmerges() -> None:
    base = write_base(Path("base.gguf"))
    start("./run", base, **LORA)
    source = source_of_run(Path("run"), None, quiet)
    assert source.adapters is not None
    assert source.tensors is not None
    export_peft(Path("adapter"), source.hp, source.adapters, source.tensors, source.base)
    model = template()
    found = read_adapter(Path("adapter"), model.hp, model.shapes)
    assert found.adapters == source.adapters
    assert all(np.array_equal(found.tensors[name], values) for name, values in source.tensors.items())
    ids = [1, 2, 3, 4, 5, 6]
    promote("./run", 4, quiet)
    merged = ck.compile("./run", kv="f32", context_len=64)(ids)
    loaded = ck.compile(base, adapter="adapter", kv="f32", context_len=64)(ids)
    plain = ck.compile(base, kv="f32", context_len=64)(ids)
    assert np.array_equal(merged, loaded)
    assert np.abs(merged - plain).max() > 1e-3
    export_gguf(Path("merged.gguf"), source.hp, source.weights, source.vocabulary or {})
    whole = source_of_gguf(Path("merged.gguf")).weights
    back = MergedWeights(whole, source.adapters, source.tensors, -1)
    first = weights_of(model)
    for name in source.adapters.weights:
        # Two roundings, each at most half a unit of the larger of weight and sum.
        size = np.maximum(np.abs(first[name]), np.abs(whole[name]))
        assert (np.abs(back[name] - first[name]) <= size * 2.0**-23).all()


def adapter(**changes: Any) -> Path:
    """The folder of an adapter for the llama of small_runs, its configuration changed."""
    model, folder = template(), Path("adapter")
    rng = np.random.default_rng(0)
    base = "base_model.model.model.layers.0.self_attn.q_proj"
    rows, columns = model.shapes["blk.0.attn_q.weight"]
    given = {
        f"{base}.lora_A.weight": rng.normal(size=(4, columns)).astype(np.float32),
        f"{base}.lora_B.weight": rng.normal(size=(rows, 4)).astype(np.float32),
    }
    folder.mkdir()
    save_file(given | changes.pop("tensors", {}), folder / TENSORS)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / CONFIG).write_text(json.dumps(config | changes))
    return folder


Q = "base_model.model.model.layers.0.self_attn.q_proj"
WRONG = {
    "rank": ({"r": 5}, MalformedError, r"lora_A.weight must be \[5, 32\] for this model, found \[4, 32\]"),
    "layer": (
        {"tensors": {Q.replace("layers.0", "layers.9") + ".lora_A.weight": np.zeros((4, 32), np.float32)}},
        MalformedError,
        "must be an adapter of this model's layers, found .*layers.9",
    ),
    "shape": (
        {"tensors": {f"{Q}.lora_B.weight": np.zeros((31, 4), np.float32)}},
        MalformedError,
        r"lora_B.weight must be \[32, 4\] for this model, found \[31, 4\]",
    ),
    "nan": (
        {"tensors": {f"{Q}.lora_B.weight": np.full((32, 4), np.nan, np.float32)}},
        MalformedError,
        "must hold finite numbers only",
    ),
    "alone": (
        {"tensors": {Q.replace("q_proj", "v_proj") + ".lora_A.weight": np.zeros((4, 32), np.float32)}},
        MalformedError,
        "must have lora_A.weight and lora_B.weight of every module",
    ),
    "dora": ({"use_dora": True}, UnsupportedError, "use_dora"),
    "kind": ({"peft_type": "IA3"}, UnsupportedError, "peft_type"),
    "pattern": ({"rank_pattern": {"q_proj": 2}}, UnsupportedError, "rank_pattern"),
    "alpha": ({"lora_alpha": "x"}, MalformedError, "lora_alpha"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_adapter_that_does_not_fit(name: str) -> None:
    changes, kind, text = WRONG[name]
    folder = adapter(**changes)
    with pytest.raises(kind, match=text):
        read_adapter(folder, template().hp, template().shapes)


def test_no_adapter_at_all() -> None:
    Path("empty").mkdir()
    with pytest.raises(UsageError, match=r"must be the folder of an adapter, it has no adapter_config.json"):
        read_adapter(Path("empty"), template().hp, template().shapes)


def test_a_run_from_a_folder_is_promoted_as_a_folder() -> None:
    base = write_base(Path("base"))
    start("./run", base, **LORA, steps=2)
    folder = promote("./run", 2, quiet)
    assert folder.name == "model"
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes()
    assert load_file(folder / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
    assert ck.compile("./run", context_len=64).chat_template is not None


def test_what_is_refused_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_base(Path("base.gguf"))
    with pytest.raises(
        UsageError, match=r"--seq-len: must be at most the 64 positions of base.gguf, found 65"
    ):
        start("./run", base, seq_len=65)
    with pytest.raises(UsageError, match="--lora: targets must be all or some of q, k, v, o, gate, up, down"):
        start("./run", base, lora="r=2,targets=head")
    monkeypatch.setattr("ck.train.setup.available_memory_bytes", lambda: 1 << 10)
    with pytest.raises(
        ResourceError, match=r"gradients and moments of \d+ numbers .* train adapters with --lora"
    ):
        start("./run", base)


def test_parity_is_for_runs_that_train_all_weights() -> None:
    start("./run", write_base(Path("base.gguf")), **LORA, steps=1)
    with pytest.raises(UnsupportedError, match="this one trains adapters"):
        parity("./run", quiet)
