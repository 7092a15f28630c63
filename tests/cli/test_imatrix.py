"""`ck imatrix`: the file is llama-imatrix's but for rounding; and each family's sums are the interpreter's.

tests/data/imatrix.gguf is what llama-imatrix of llama-cpp-python 0.3.36 wrote, with -c 64 --chunks 8, of
tests/data/prose.txt and the model of tests/frontend/make_gguf.py.
"""

import json
import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.ir import Operation, SSAValue

from ck.errors import MalformedError
from ck.evaluate.importance import sums_of
from ck.evaluate.windows import Windows
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.gguf import GgufFile
from ck.frontend.graph import Plan
from ck.frontend.model import open_file, open_model
from ck.frontend.model_file import ModelFile
from ck.frontend.quantize.importance import read_importance
from ck.ir.evaluate import Environment, evaluate, find_function
from ck.ir.ops.linear import LinearOp
from ck.runtime import activations
from ck.runtime.activations import compile_activations
from ck.runtime.compilation import model_graph
from ck.runtime.options import Options
from ck.runtime.weights import read_tensor
from tests.frontend.folders import write_folder
from tests.frontend.make_gguf import write_tiny
from tests.frontend.random_models import N_VOCAB, small

DATA = Path(__file__).parents[1] / "data"
RECORDED = DATA / "imatrix.gguf"
LENGTH = 40
IDS = np.random.default_rng(4).integers(0, N_VOCAB, (2, LENGTH)).astype(np.int32)


def test_the_file_is_llama_imatrixs(ck_main: Any, tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.gguf")
    shutil.copy(DATA / "prose.txt", tmp_path)
    words = ("imatrix", "tiny.gguf", "-f", "prose.txt", "-c", "64", "--chunks", "8", "-o", "out.gguf")
    result = ck_main(*words)
    assert (result.code, result.err) == (0, "")
    assert result.out == "out.gguf: 14 matrices on 8 windows of 64 tokens, 0.01 MiB\n"
    found, want = GgufFile(tmp_path / "out.gguf"), GgufFile(RECORDED)
    start = min(tensor.offset for tensor in want.tensors.values())
    assert (tmp_path / "out.gguf").read_bytes()[:start] == RECORDED.read_bytes()[:start]
    assert (tmp_path / "out.gguf").stat().st_size == RECORDED.stat().st_size
    for name in want.tensors:
        ours, theirs = (file.raw(name).view(np.float32) for file in (found, want))
        assert np.allclose(ours, theirs, rtol=1e-4, atol=0), name
    assert read_importance("out.gguf").weights["blk.1.ffn_down.weight"].shape == (64,)
    again = ck_main(*words)
    assert again.code == 9
    assert again.err == (
        "ck: out.gguf: must be a new file, found one; choose another name, or give --force\n"
    )
    first = json.loads(ck_main(*words, "--force", "--json").out)
    assert first == {
        "schema_version": 1, "model": "tiny.gguf", "path": "out.gguf", "n_bytes": RECORDED.stat().st_size,
        "n_matrices": 14, "n_ctx": 64, "n_chunks": 8, "n_tokens": 512,
    }  # fmt: skip
    assert ck_main("quantize", "tiny.gguf", "q.gguf", "--type", "q4_0", "--imatrix", "out.gguf").code == 0
    assert GgufFile("q.gguf").metadata["quantize.imatrix.dataset"] == "prose.txt"


def test_a_text_that_is_too_short_is_refused(ck_main: Any, tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.gguf")
    (tmp_path / "text").write_text("ab ab")
    result = ck_main("imatrix", "tiny.gguf", "-f", "text", "-o", "out.gguf")
    assert (result.code, (tmp_path / "out.gguf").exists()) == (2, False)
    assert result.err.startswith("ck: text: 1024 tokens at least are required by windows of 512, found ")
    assert ck_main("imatrix", "tiny.gguf", "-f", "none", "-o", "out.gguf").err == (
        "ck: none: must be a readable file, No such file or directory\n"
    )
    assert ck_main("imatrix", "tiny.gguf", "-f", "text", "-o", "no/out.gguf").code == 2


def test_a_place_that_is_read_only_is_known_before(
    ck_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(tmp_path / "tiny.gguf")
    # Root may write anywhere, so the system is asked for another user.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    result = ck_main("imatrix", "tiny.gguf", "-f", "none", "-o", "out.gguf")
    assert result.code == 6
    assert result.err == "ck: out.gguf: must lie in a directory that can be written, . can not\n"


def test_files_whose_names_are_no_utf8(ck_main: Any, tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.gguf")
    text, out = os.fsdecode(b"\xff.txt"), os.fsdecode(b"\xfe.gguf")
    shutil.copy(DATA / "prose.txt", tmp_path / text)
    assert (
        ck_main(
            "imatrix", "tiny.gguf", "-f", text, "-c", "64", "--chunks", "2", "-o", out, "--dtype", "F32"
        ).code
        == 0
    )
    assert ck_main("quantize", "tiny.gguf", "q.gguf", "--type", "q4_0", "--imatrix", out).code == 0
    said = GgufFile("q.gguf").metadata
    assert [said[f"quantize.imatrix.{key}"] for key in ("file", "dataset")] == ["?.gguf", "?.txt"]


IS_READ = "must be another file than what is read; choose another name"


@pytest.mark.parametrize(
    ("model", "output", "message"),
    [
        ("tiny.gguf", "tiny.gguf", IS_READ),
        ("tiny.gguf", "link", IS_READ),
        ("m-00003-of-00003.gguf", "m-00002-of-00003.gguf", IS_READ),
        ("hf", "hf/config.json", IS_READ),
        ("tiny.gguf", "folder", "must be a plain file to be replaced, found something else"),
    ],
)
def test_nothing_that_is_read_is_written_over(
    ck_main: Any, tmp_path: Path, model: str, output: str, message: str
) -> None:
    for name in ("hf", "folder"):
        (tmp_path / name).mkdir()
    files = ("tiny.gguf", "text", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf", "hf/config.json")
    for name in files:
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("text")
    words = ("imatrix", model, "-f", "text", "-c", "64", "--chunks", "2", "-o", output, "--force")
    result = ck_main(*words)
    assert (result.code, result.err) == (2, f"ck: {output}: {message}\n")
    assert [(tmp_path / name).read_text() for name in files] == [*files]


class Interpreted:
    """Sums over what enters each matrix of a model, by the interpreter of its graph."""

    def __init__(self, file: ModelFile) -> None:
        self.sums: dict[str, np.ndarray] = {}
        plan, options = Plan(LENGTH, LENGTH, "f32"), Options(LENGTH, "f32", None, LENGTH)
        self.module = model_graph(open_model(file), plan, options)
        self.weights = {name: read_tensor(file, name) for name in file.tensors} | self.module.constants
        self.entering = defaultdict[SSAValue, list[str]](list)
        for op in find_function(self.module.module, "prefill").body.block.ops:
            if isinstance(op, LinearOp):
                self.entering[op.x].append(op.w.owner.symbol_name)

    def observe(self, value: SSAValue, op: Operation, result: Any) -> None:
        for name in self.entering.get(value, ()):
            self.sums[name] = self.sums.get(name, 0) + (result.astype(np.float64) ** 2).sum(0)

    def read(self, ids: np.ndarray) -> None:
        environment = Environment(self.weights, observe=self.observe)
        evaluate(self.module.module, "prefill", [ids, len(ids), 0], environment)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_sums_of_a_family_are_the_interpreters(
    arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows are longer than a step, and no multiple of it.
    monkeypatch.setattr(activations, "_STEP", 24)
    write_folder(tmp_path / "model", small(arch))
    file = open_file(tmp_path / "model")
    backend = "llvm" if len(arch) % 2 else "c"
    program = compile_activations(file, LENGTH, kv="f32", backend=backend)
    found = sums_of(program, Windows(IDS, None), lambda done, total: None)
    interpreted = Interpreted(file)
    for ids in IDS:
        interpreted.read(ids)
    matrices = {
        name for name, tensor in file.tensors.items() if name.startswith("blk") and "conv" not in name
    }
    assert set(found.squares) == {name for name in matrices if len(file.tensors[name].shape) == 2}
    assert (found.n_tokens, found.n_chunks) == (2 * LENGTH, 2)
    for name, squares in found.squares.items():
        assert np.allclose(squares, interpreted.sums[name], rtol=1e-4), name


def test_a_window_begins_with_bos_and_ends_with_its_last_token(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", small("llama"))
    program = compile_activations(open_file(tmp_path / "model"), LENGTH)
    told = list[tuple[int, int]]()
    whole = sums_of(program, Windows(IDS, 3), lambda *done: told.append(done)).squares
    assert told == [(0, 2), (1, 2)]
    begun = IDS.copy()
    begun[:, 0] = 3
    others = sums_of(program, Windows(begun, None), lambda done, total: None).squares
    assert all(np.array_equal(whole[name], others[name]) for name in whole)
    begun[1, -1] += 1
    assert not np.array_equal(
        whole["blk.0.attn_q.weight"],
        sums_of(program, Windows(begun, None), lambda done, total: None).squares["blk.0.attn_q.weight"],
    )


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    tensor = GgufFile(path).tensors["blk.0.attn_output.weight"]
    data = bytearray(path.read_bytes())
    data[tensor.offset : tensor.offset + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    program = compile_activations(open_file(path), LENGTH)
    with pytest.raises(
        MalformedError, match=r"blk\.0.ffn_gate\.weight: finite numbers must enter it, found others"
    ):
        sums_of(program, Windows(IDS % 272, None), lambda done, total: None)
