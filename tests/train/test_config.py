"""A run's configuration: defaults, which source wins, every mistake at once, TOML that reads back equal."""

import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ck.errors import MalformedError, UsageError
from ck.frontend.architectures.templates import PRESETS, TEMPLATES
from ck.train.config import KEYS, SECTIONS, TrainConfig, dump_toml, load_config
from ck.train.config_sources import FLAGS
from ck.train.setup import make_template

FLAT: dict[str, Any] = {"template": "llama", "data": ("corpus.txt",)}


def load(**flags: Any) -> TrainConfig:
    return load_config(None, FLAT | flags)


def mistakes(toml: Path | None = None, sets: tuple[str, ...] = (), **flags: Any) -> str:
    """The line for a configuration that would be right but for what is given."""
    with pytest.raises(UsageError) as caught:
        load_config(toml, FLAT | flags, sets)
    line = str(caught.value)
    assert "\n" not in line
    return line


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults() -> None:
    config = load()
    model = config.model
    assert (model.layers, model.embed_dim, model.hidden_dim) == (4, 128, 512)
    assert (model.num_heads, model.num_kv_heads, model.head_dim) == (8, 4, 16)
    assert (model.vocab_size, model.context_len, model.init) == (1024, 512, "normal_0p02")
    assert config.data.paths == ("corpus.txt",)
    optim = config.optim
    assert (optim.optimizer, optim.lr, optim.beta1, optim.beta2) == ("adamw", 3e-4, 0.9, 0.95)
    assert (optim.eps, optim.weight_decay, optim.decay, optim.max_grad_norm) == (1e-8, 0.1, "matrices", 1.0)
    run = config.run
    assert (run.steps, run.epochs, run.total_tokens) == (200, None, None)
    assert (run.seq_len, run.batch, run.grad_accum, run.seed) == (128, 8, 1, 42)
    assert (run.save_every, run.eval_every, run.keep_last, run.dtype) == (100, 50, 3, "f32")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_sizes_that_any_other_source_may_change(name: str, tmp_path: Path) -> None:
    config = load_config(None, {"preset": name, "data": "corpus.txt"})
    given = {key: config.model_dump()[key.split(".")[0]][key.split(".")[1]] for key in PRESETS[name]}
    assert given == PRESETS[name]
    assert make_template(config, config.model.vocab_size).hp.head_dim == 16
    toml = write(tmp_path / "c.toml", "[model]\nlayers = 1\nembed_dim = 64\n")
    flags = {"preset": name, "data": "corpus.txt", "embed_dim": 32}
    changed = load_config(toml, flags, ["model.hidden_dim=48"]).model
    assert (changed.layers, changed.embed_dim, changed.hidden_dim) == (1, 32, 48)
    assert changed.vocab_size == config.model.vocab_size
    assert load_config(write(tmp_path / "d.toml", dump_toml(config))) == config


def test_the_presets_are_of_these_sizes() -> None:
    found = {}
    for name in PRESETS:
        model = load_config(None, {"preset": name, "data": "c"}).model
        sizes = (model.layers, model.embed_dim, model.hidden_dim, model.context_len, model.vocab_size)
        found[name] = (*sizes, model.num_heads, model.num_kv_heads)
    assert found == {
        "gemma3-tiny": (18, 160, 640, 1024, 1536, 10, 5),
        "llama-tiny": (16, 128, 512, 512, 1024, 8, 4),
        "nanbeige-tiny": (16, 128, 512, 1024, 1024, 8, 8),
        "qwen2-tiny": (12, 96, 384, 512, 1024, 8, 4),
        "qwen3-tiny": (16, 128, 512, 512, 1024, 8, 4),
        "qwen35-tiny": (16, 128, 512, 512, 1024, 8, 4),
    }


def test_a_presets_values_say_where_they_stand() -> None:
    assert mistakes(preset="tiny") == f"--preset: must be one of {', '.join(PRESETS)}, found 'tiny'"
    assert mistakes(preset="qwen2-tiny", num_heads=3, num_kv_heads=None).startswith(
        "--preset qwen2-tiny: model.num_kv_heads: must divide the 3 heads, found 4"
    )


def test_a_template_may_have_a_head_size_of_its_own() -> None:
    assert load(template="nanbeige", embed_dim=96).model.head_dim == 128
    assert load(template="nanbeige", head_dim=32).model.head_dim == 32


def test_the_later_source_wins(tmp_path: Path) -> None:
    toml = write(
        tmp_path / "c.toml",
        """
[model]
layers = 1
[data]
paths = ["a b.txt"]
[optim]
lr = 1
beta1 = 0.8
[run]
batch = 2
""",
    )
    # An option of the command line that may be repeated is () where it is not given, any other one None.
    flags = FLAT | {"lr": 0.5, "batch": 3, "seed": None, "data": ()}
    config = load_config(toml, flags, ["run.batch = 4", "run.dtype=bf16"])
    assert (config.model.layers, config.optim.lr, config.optim.beta1) == (1, 0.5, 0.8)
    assert (config.run.batch, config.run.seed, config.run.dtype) == (4, 42, "bf16")
    assert config.data.paths == ("a b.txt",)


def test_set_takes_words_and_toml() -> None:
    sets = ['data.paths=["a", "b"]', "data.tokenizer='ascii_bpe'", "model.tied=true", "optim.lr=1e-3"]
    sets += ["optim.schedule=wsd", "run.steps=50"]
    config = load_config(None, FLAT, sets)
    assert config.data.paths == ("a", "b")
    assert (config.data.tokenizer, config.model.tied) == ("ascii_bpe", True)
    assert (config.optim.lr, config.optim.schedule, config.run.steps) == (1e-3, "wsd", 50)
    # A value cannot carry further keys in.
    assert load_config(None, FLAT, ["data.tokenizer=1\nvalue2 = 3"]).data.tokenizer == "1\nvalue2 = 3"


def test_the_length_of_the_last_source_counts(tmp_path: Path) -> None:
    toml = write(tmp_path / "c.toml", "[run]\nsteps = 5\n")
    assert load_config(toml, FLAT).run.steps == 5
    run = load_config(toml, FLAT | {"epochs": 2}).run
    assert (run.steps, run.epochs) == (None, 2)
    run = load_config(toml, FLAT | {"epochs": 2}, ["run.total_tokens=5000"]).run
    assert (run.steps, run.epochs, run.total_tokens) == (None, None, 5000)
    line = "--steps, --epochs: one of --steps, --epochs, --total-tokens is required, found 2"
    assert mistakes(steps=5, epochs=2) == line


def test_what_follows_from_other_keys(tmp_path: Path) -> None:
    config = load(embed_dim=96, num_heads=3, num_kv_heads=1)
    assert config.model.head_dim == 32
    assert load(tokenizer=tmp_path / "tokenizer.json").model.vocab_size == 0, "the tokenizer's own"
    assert load(tokenizer="t.json", vocab_size=512).model.vocab_size == 512


def test_every_mistake_at_once(tmp_path: Path) -> None:
    text = """
lr = 3
[model]
layers = 0
embed_dmi = 4
num_heads = 6
[optm]
x = 1
[run]
batch = "8"
seq_len = 1024
"""
    toml = write(tmp_path / "c.toml", text)
    sets = ("optim.beta1=1", "optim.warmpu=3", "oops", "run.dtype=f16", "model.tied=yes", "model.lr=1")
    found = mistakes(toml, sets, lr=float("nan"), hidden=3, embed_dim=True, data=[], template="llma")
    assert found.split("; ") == [
        f"{toml}: must hold [model], [lora], [data], [optim], [run], found lr, did you mean optim.lr",
        f"{toml}: model.embed_dmi: is no key, did you mean model.embed_dim",
        f"{toml}: must hold [model], [lora], [data], [optim], [run], found optm, did you mean [optim]",
        "--hidden: is no option, did you mean --hidden-dim",
        "--set optim.warmpu: is no key, did you mean optim.warmup",
        "--set: must be section.name=value, found oops",
        "--set model.lr: is no key, did you mean optim.lr",
        f"--template: must be one of {', '.join(TEMPLATES)}, found 'llma'",
        f"{toml}: model.layers: must be a whole number from 1 to 1024, found 0",
        "--embed-dim: must be a whole number from 1 to 1048576, found True",
        "--set model.tied: must be true or false, found 'yes'",
        "--lr: must be a number above 0, found nan",
        "--set optim.beta1: must be a number from 0 to below 1, found 1",
        f"{toml}: run.batch: must be a whole number from 1 to 65536, found '8'",
        "--set run.dtype: must be one of f32, bf16, found 'f16'",
        "--num-kv-heads: must divide the 6 heads, found 4, pass --num-kv-heads 6, or fewer that divide them",
        "--data: at least one file or folder is required, found none",
        f"{toml}: run.seq_len: must be at most the context of 512, found 1024, lower it or pass "
        "--context-len 1024",
    ]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"data": None}, "--data: at least one file or folder is required, found none"),
        ({"template": None}, f"--template: must be one of {', '.join(TEMPLATES)}, found none"),
        (
            {"embed_dim": 96},
            "--head-dim: must be a multiple of 16, which attention at inference needs, found 12, which is "
            "96 / 8, pass --head-dim 16",
        ),
        (
            {"embed_dim": 100},
            "--head-dim: must be a multiple of 16, which attention at inference needs, found 12.5, which is "
            "100 / 8, pass --head-dim 16",
        ),
        (
            {"head_dim": 33},
            "--head-dim: must be a multiple of 16, which attention at inference needs, found 33, "
            "pass --head-dim 48",
        ),
        ({"vocab_size": 299}, "--vocab-size: must be a whole number from 300 to 4194304, found 299"),
        ({"lr": 0}, "--lr: must be a number above 0, found 0"),
        ({"lr": "fast"}, "--lr: must be a number above 0, found 'fast'"),
        ({"layers": 2.0}, "--layers: must be a whole number from 1 to 1024, found 2.0"),
        ({"steps": 0}, "--steps: must be a whole number from 1, found 0"),
        ({"data": 3}, "--data: must be a list of files and folders, found 3"),
        ({"data": [""]}, "--data: must be a list of files and folders, found ['']"),
        (
            {"steps": 10, "warmup": 11},
            "--warmup: must be at most the 10 steps of the run, found 11; pass fewer, or more --steps",
        ),
        (
            {"warmup": 201},
            "--warmup: must be at most the 200 steps of the run, found 201; pass fewer, or more --steps",
        ),
        (
            {"steps": 10, "schedule": "wsd", "warmup": 10},
            "optim.decay_steps: warm-up and decay must fit into the 10 steps of the run, found 10 and 1; "
            "shorten one of them",
        ),
        (
            {"total_tokens": 1023},
            "--total-tokens: must be at least the 1024 tokens of one step, found 1023",
        ),
    ],
)
def test_mistakes(flags: dict[str, Any], line: str) -> None:
    assert mistakes(**flags) == line


def test_numbers_of_other_kinds_and_files_by_text(tmp_path: Path) -> None:
    run = load(batch=np.int64(3), epochs=np.uint8(2), lr=np.float32(0.5)).run
    assert (run.batch, run.epochs) == (3, 2)
    assert load(lr=np.float32(0.5)).optim.lr == 0.5
    assert mistakes(batch=np.bool_(True)).startswith("--batch: must be a whole number from 1 to 65536, found")
    assert mistakes(batch=np.zeros(2)).startswith("--batch: must be a whole number from 1 to 65536, found")
    toml = write(tmp_path / "c.toml", "[run]\nsteps = 5\n")
    assert load_config(str(toml), FLAT).run.steps == 5
    for wrong in (3, ["c.toml"], b"c.toml"):
        with pytest.raises(UsageError, match="toml: must be the path of a TOML file, found "):
            load_config(wrong, FLAT)


def test_what_a_family_has_not_is_a_mistake_too() -> None:
    assert "has no sliding window" in mistakes(sets=("model.template=smollm3", "model.sliding_window=64"))


def test_a_long_value_is_cut() -> None:
    assert len(mistakes(seed="x" * 10000)) < 200


def test_a_name_that_toml_cannot_hold_is_refused() -> None:
    line = "--data: must be a list of files and folders, found "
    assert mistakes(data=os.fsdecode(b"\xff.txt")).startswith(line)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: must be a readable TOML file, no such file"):
        load_config(tmp_path / "none.toml", FLAT)
    with pytest.raises(MalformedError, match=r"c\.toml: must be TOML, .* \(at line 2, column 3\)"):
        load_config(write(tmp_path / "c.toml", "[run]\nx y\n"), FLAT)
    (tmp_path / "c.toml").write_bytes(b"\xff")
    with pytest.raises(MalformedError, match=r"c\.toml: must be TOML, 'utf-8' codec"):
        load_config(tmp_path / "c.toml", FLAT)


def reads_back(config: TrainConfig, path: Path) -> bool:
    return load_config(write(path, dump_toml(config)), {}) == config


def test_toml_reads_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert reads_back(load(), path)
    strange = ["a\"b'c\\d\te\nf\r\x00\x1b\x7f\u2028ä🜚", " ", "#", "[x]", "é" * 300]
    sets = ["model.tied=false", "run.threads=2", "optim.decay_steps=3", "run.activation_budget=0.5"]
    flags = {"data": strange, "lr": 0.1 + 0.2, "epochs": 3, "seed": 2**63 - 1}
    config = load_config(None, FLAT | flags, [*sets, "optim.eps=5e-324", 'data.special_tokens=["<|a|>"]'])
    assert config.data.paths == tuple(strange)
    assert reads_back(config, path)
    parsed = tomllib.loads(path.read_text())
    assert list(parsed) == [*SECTIONS]
    assert "steps" not in parsed["run"]


def test_a_record_reads_back_equal() -> None:
    config = load(data=["a", "b"], epochs=1)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_flags_are_keys_and_names_are_one_key_each() -> None:
    """A flag leaves its section out, so that no two sections may have the same name."""
    names = [key.partition(".")[2] for key in KEYS]
    assert len({*names}) == len(names)
    assert {*names} >= FLAGS
    assert all(field.description for kind in SECTIONS.values() for field in kind.model_fields.values())


def test_a_loaded_configuration_does_not_change() -> None:
    config = load()
    with pytest.raises(ValidationError, match="frozen"):
        config.run.steps = 5


def test_a_run_from_a_model_has_no_sizes_of_its_own(tmp_path: Path) -> None:
    given = {"data": "docs", "base": "m.gguf"}
    config = load_config(None, given | {"lora": "r=4,targets=q,v"})
    assert (config.lora.rank, config.lora.alpha, config.lora.targets) == (4, 8.0, ("q", "v"))
    path = tmp_path / "config.toml"
    assert reads_back(config, path)
    assert list(tomllib.loads(path.read_text())["model"]) == ["base"]
    with pytest.raises(UsageError, match="found --preset llama-tiny, --layers, --tokenizer; leave them out"):
        load_config(None, given | {"preset": "llama-tiny", "layers": 3, "tokenizer": "bpe"})
    with pytest.raises(
        UsageError, match="--lora: r: needs a model to adapt, found none; give one with --from"
    ):
        load_config(None, FLAT | {"lora": "r=4"})


@pytest.mark.parametrize("text", ["rank=8", "alpha=2", "r=8,9", "r=8,dropout=0.1", ""])
def test_what_lora_takes(text: str) -> None:
    with pytest.raises(UsageError, match="--lora: must be r=8,alpha=16,targets=q,v or r=8 alone"):
        load_config(None, {"data": "docs", "base": "m.gguf", "lora": text})
