"""`ck export`: runs and files in, folders and files out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ck.frontend.gguf import GgufFile
from ck.frontend.model import open_model
from ck.runtime.resolve import run_directory
from ck.runtime.weights import read_tensor
from ck.train.checkpoints import Checkpoint, Checkpoints
from ck.train.corpus import Document
from ck.train.export.huggingface import FILES
from ck.train.tokenizer_training import train_tokenizer
from tests.frontend.make_gguf import write_tiny
from tests.frontend.random_models import N_VOCAB, random_weights, small

PROSE_FILE = Path(__file__).parents[1] / "data" / "prose.txt"
HP = small("llama")


def make_run(directory: Path) -> Path:
    """A run with checkpoints of step 1 and 2, whose weights are those of seed 1 and 2."""
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(json.dumps({"hyperparameters": asdict(HP)}))
    train_tokenizer([Document(PROSE_FILE.read_text(), PROSE_FILE, 1)], "bpe", N_VOCAB).save(
        directory / "tokenizer.json"
    )
    for step in (1, 2):
        Checkpoints(directory).save(Checkpoint(step, random_weights(HP, step), {}))
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "a run")


def holds(path: Path, seed: int) -> bool:
    """Whether the file at `path` has the weights of `seed`."""
    file = open_model(path).file
    return all(
        np.array_equal(read_tensor(file, name), values) for name, values in random_weights(HP, seed).items()
    )


def test_a_run_becomes_a_file(ck_main: Any, run: Path, tmp_path: Path) -> None:
    result = ck_main("export", str(run), "--to", "gguf", "-o", "x.gguf")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("x.gguf: a run at step 2, 0.41 MiB")
    assert holds(tmp_path / "x.gguf", 2)
    assert open_model(tmp_path / "x.gguf").file.name == "a run"
    first = ck_main("export", str(run), "--to", "GGUF:F32", "-o", "y.gguf", "--step", "1", "--json")
    size = (tmp_path / "y.gguf").stat().st_size
    assert json.loads(first.out) == {
        "schema_version": 1, "model": "a run", "step": 1, "to": "GGUF:F32", "path": "y.gguf", "n_bytes": size,
    }  # fmt: skip
    assert holds(tmp_path / "y.gguf", 1)
    assert ck_main("export", str(run), "--to", "gguf:q8_0", "-o", "z.gguf").code == 0
    assert GgufFile(tmp_path / "z.gguf").tensors["blk.0.attn_q.weight"].storage.name == "q8_0"


def test_a_run_becomes_a_folder(ck_main: Any, run: Path, tmp_path: Path) -> None:
    assert ck_main("export", str(run), "--to", "hf", "-o", "out").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == (run / "tokenizer.json").read_text()
    again = ck_main("export", str(run), "--to", "hf", "-o", "out")
    assert (again.code, again.err.count("\n")) == (9, 1)
    assert ck_main("export", str(run), "--to", "hf", "-o", "out", "--force").code == 0


def test_a_run_has_a_name(ck_main: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "cache" / "train" / "mine")
    assert ck_main("export", "mine", "--to", "gguf", "-o", "x.gguf").out.startswith("x.gguf: mine at step 2")


def test_a_runs_name_wins_over_a_folder_that_is_no_run(ck_main: Any, tmp_path: Path) -> None:
    named = make_run(tmp_path / "cache" / "train" / "mine")
    (tmp_path / "mine").mkdir()
    words = ("export", "mine", "--to", "gguf", "-o")
    assert ck_main(*words, "x.gguf").out.startswith("x.gguf: mine at step 2, ")
    # The promoted model is another thing, which the line says.
    record = json.loads((named / "run.json").read_text()) | {"model": {"file": "model.gguf", "step": 1}}
    (named / "run.json").write_text(json.dumps(record))
    told = ck_main(*words, "y.gguf")
    assert told.out.startswith("y.gguf: mine at step 2, the promoted model is step 1, ")
    assert ck_main(*words, "z.gguf", "--step", "1").out.startswith("z.gguf: mine at step 1, 0.41 MiB")
    # A folder that is a run, and a file, are what they are called.
    write_tiny(tmp_path / "mine" / "tiny.gguf")
    (tmp_path / "mine" / "run.json").write_text(json.dumps({"model": {"file": "tiny.gguf"}}))
    assert ck_main(*words, "t.gguf").out.startswith("t.gguf: tiny,")
    assert run_directory("mine") == Path("mine")
    (tmp_path / "mine" / "run.json").unlink()
    assert run_directory("mine") == named
    (tmp_path / "mine" / "tiny.gguf").rename("tiny.gguf")
    (tmp_path / "mine").rmdir()
    (tmp_path / "tiny.gguf").rename("mine")
    assert ck_main(*words, "u.gguf").out.startswith("u.gguf: tiny,")


def test_a_damaged_checkpoint_is_passed_over_aloud(ck_main: Any, run: Path, tmp_path: Path) -> None:
    (run / "checkpoints" / "step-2" / "weights.safetensors").write_bytes(b"cut short")
    result = ck_main("export", str(run), "--to", "gguf", "-o", "x.gguf")
    assert result.code == 0
    assert result.err.startswith(f"{run}: skipped step 2: ")
    assert holds(tmp_path / "x.gguf", 1)
    asked = ck_main("export", str(run), "--to", "gguf", "-o", "y.gguf", "--step", "2")
    assert (asked.code, asked.out) == (3, "")
    missing = ck_main("export", str(run), "--to", "gguf", "-o", "y.gguf", "--step", "3")
    assert missing.code == 2
    assert not (tmp_path / "y.gguf").exists()


def test_a_file_becomes_another_or_a_folder(ck_main: Any, tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.gguf")
    assert ck_main("export", "tiny.gguf", "--to", "gguf:f16", "-o", "half.gguf").out.startswith(
        "half.gguf: tiny,"
    )
    assert GgufFile(tmp_path / "half.gguf").tensors["output.weight"].storage.name == "f16"
    assert ck_main("export", "tiny.gguf", "--to", "hf", "-o", "folder").code == 0
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["rms_norm_eps"]) == (1, 2, 1e-05)


TYPES = "f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl, q6_k, q5_k, q4_k, q3_k, q2_k, iq4_xs"
FORMATS = f"--to: must be hf, peft, gguf or gguf:TYPE with TYPE of {TYPES}, found"
MISTAKES = [
    ("--to", "onnx", f"{FORMATS} onnx"),
    ("--to", "gguf:iq3_s", f"--to: the type must be one of {TYPES}, found gguf:iq3_s"),
    ("--to", "hf:f16", f"{FORMATS} hf:f16"),
    ("--step", "3", "--step: needs a training run, tiny.gguf is a model file"),
]


@pytest.mark.parametrize(("option", "value", "line"), MISTAKES)
def test_mistakes(option: str, value: str, line: str, ck_main: Any, tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.gguf")
    words = {"--to": "gguf"} | {option: value}
    result = ck_main("export", "tiny.gguf", "-o", "x", *(word for pair in words.items() for word in pair))
    assert result == (2, "", f"ck: {line}\n")
    assert not (tmp_path / "x").exists()


def test_a_directory_with_a_program_is_the_model_of_it(ck_main: Any, run: Path) -> None:
    write_tiny(run / "tiny.gguf")
    (run / "run.json").write_text(json.dumps({"model": {"file": "tiny.gguf"}}))
    assert ck_main("export", str(run), "--to", "gguf", "-o", "x").out.startswith("x: tiny,")


def test_a_directory_that_is_no_run(ck_main: Any, run: Path) -> None:
    (run / "run.json").write_text("[]")
    broken = ck_main("export", str(run), "--to", "gguf", "-o", "x")
    assert broken.err == f"ck: {run}/run.json: must be a JSON object, found list\n"
    (run / "run.json").write_text("{}")
    assert ck_main("export", str(run), "--to", "gguf", "-o", "x").code == 3
    assert ck_main("export", "nothing", "--to", "gguf", "-o", "x").code == 2
