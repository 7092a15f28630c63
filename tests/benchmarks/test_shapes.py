"""Files of random weights are models that ck reads, and the benchmark that runs them says what it cannot."""

import math
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest

import ck
from ck.dtypes import BY_NAME
from ck.errors import ResourceError
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.decays import FACTOR
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model import open_model
from ck.runtime.weights import read_tensor
from tests.frontend.random_models import small

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("shapes")


def wide(arch: str, **changes: Any) -> HyperParameters:
    """Small, with rows that a block of q4_k divides, but for those of the feed-forward product."""
    return small(arch, d_model=256, n_vocab=600, **changes)


@pytest.mark.parametrize("storage", ["q8_0", "q4_k"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_file_reads_back(arch: str, storage: str, shapes: ModuleType, tmp_path: Path) -> None:
    hp = wide(arch, tied=False)
    n_bytes = shapes.write_model(tmp_path / "model.gguf", hp, storage)
    assert n_bytes == (tmp_path / "model.gguf").stat().st_size > shapes.file_bytes(hp, storage)
    file = open_model(tmp_path / "model.gguf").file
    assert file.hyperparameters() == replace(hp, log_decay=False)
    for name, tensor in file.tensors.items():
        assert not name.endswith(f".{FACTOR}") or (read_tensor(file, name) < 0).all()
        if len(tensor.shape) == 2 and tensor.storage.quantized:
            assert tensor.storage.name == (storage if tensor.shape[1] % 256 == 0 else "q8_0")
            values = gguf.dequantize(
                file.rows(name, 0, tensor.shape[0]), gguf.GGMLQuantizationType(tensor.storage.ggml_id)
            )
            assert np.isfinite(values).all()
            # Products keep the length of a row.
            assert abs(values.std() * math.sqrt(tensor.shape[1]) - 1) < 0.1, name
            assert abs(values.mean()) < 0.1 * values.std(), name


def test_a_file_runs(shapes: ModuleType, tmp_path: Path) -> None:
    hp = wide("llama", rope_divisors=(2.0,) * 16)
    shapes.write_model(tmp_path / "model.gguf", hp, "q4_k")
    model = ck.compile(tmp_path / "model.gguf", context_len=64)
    logits = np.asarray(model([1, 2, 3]))
    assert logits.shape == (3, 600)
    assert np.isfinite(logits).all()
    assert np.ptp(logits) > 0.1


def test_every_shape_is_a_model(shapes: ModuleType) -> None:
    n_params = {name: shapes.n_params(shapes.numbers(fields)) for name, (_, fields) in shapes.SHAPES.items()}
    millions = {name: round(n / 1e6) for name, n in n_params.items()}
    # As the models' cards state them.
    assert millions["Qwen2-0.5B"] == 494
    assert millions["Qwen3-0.6B"] == 596
    assert millions["Qwen3.5-0.8B"] == 752
    assert millions["Gemma 3 270M"] == 268
    assert millions["Gemma 3 1B"] == 1000
    assert millions["Llama-3.2-1B"] == 1236
    assert millions["SmolLM3-3B"] == 3075
    for name, (storage, fields) in shapes.SHAPES.items():
        ratio = shapes.file_bytes(shapes.numbers(fields), storage) / n_params[name]
        block = BY_NAME[storage]
        assert block.file_bytes / block.block <= ratio < 1.08


def test_a_machine_that_is_too_small(shapes: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"^Big: needs \d+ bytes of .*'s disk, \d+ are free$"):
        shapes.check_room("Big", 1 << 60, tmp_path)
    shapes.check_room("Small", 1000, tmp_path)


def test_one_line_for_what_is_wrong(
    shapes: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["shapes.py", "--shapes", "GPT-9"])
    assert shapes.main() == 2
    assert capsys.readouterr().err.startswith("shapes.py: --shapes: must be of Qwen2-0.5B, ")
    monkeypatch.setattr(shapes, "SPARE_BYTES", 1 << 60)
    monkeypatch.setattr(sys, "argv", ["shapes.py", "--shapes", "Gemma 3 270M", "--folder", str(tmp_path)])
    assert shapes.main() == 8
    assert capsys.readouterr().err.startswith("shapes.py: Gemma 3 270M: needs ")


def test_the_table(shapes: ModuleType) -> None:
    row = {
        "shape": "x", "storage": "q8_0", "n_params": 2_000_000, "file_bytes": 3_000_000, "cold_s": 1.25,
        "cached_s": 0.5, "rss_bytes": 4_000_000, "least_bytes": 3_500_000, "prompt_rate": 100.4,
        "decode_rate": 9.96,
    }  # fmt: skip
    facts = {"date": "today", "commit": "c", "cpu": "cpu", "cores": 2}
    text = shapes.table({"situation": facts, "threads": 2, "tokens": 16, "rows": [row]})
    assert text.splitlines()[-1] == (
        "| x | 2 M, Q8_0 | 3 MB | 1.2 s | 0.5 s | 4 MB | 4 MB | 100 /s | 10.0 /s |"
    )
