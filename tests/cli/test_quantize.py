"""`ck quantize`: llama-quantize's bytes, and what is refused.

tests/data/quantized.json holds what llama-quantize made of the models of tests/train/quantized.py.
"""

import json
import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ck.errors import CkError
from ck.frontend.gguf import GgufFile
from ck.frontend.model import GgufModel
from ck.frontend.quantize import importance
from ck.frontend.quantize.importance import read_importance
from ck.frontend.quantize.mixes import Choice, find_file_type
from ck.train.export import quantized_file
from ck.train.export.gguf_file import STORAGE_TYPES
from ck.train.export.quantized_file import plan_quantized, write_quantized
from tests.frontend.raw_gguf import U32, parse, u32
from tests.train import quantized
from tests.train.quantized import MATRIX, OLDER

RECORDED = json.loads(quantized.RECORDED.read_text())


class Models(NamedTuple):
    """The files, in a folder with the matrices."""

    small: Path
    deep: Path
    large: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(*quantized.write_all(tmp_path_factory.mktemp("models")))


@pytest.fixture
def models(made: Models, monkeypatch: pytest.MonkeyPatch, ck_main: Any) -> Models:
    """The same, in the working directory: names of matrices are written to files as they are given."""
    monkeypatch.chdir(made.small.parent)
    return made


def plan(file: GgufModel, name: str) -> quantized_file.Plan:
    """The plan of a recorded file."""
    of, *options = name.split()
    given = dict(pairwise([*options, ""]))
    path = given.get("--imatrix")
    matrix = None if path is None else read_importance(path)
    choice = Choice(
        head=given.get("--output-tensor-type"),
        embedding=given.get("--token-embedding-type"),
        leave_head="--leave-output-tensor" in options,
        pure="--pure" in options,
        weighted=matrix is not None,
    )
    return plan_quantized(file, find_file_type(of), choice, matrix)


@pytest.mark.parametrize("name", RECORDED["whole"])
def test_a_file_is_llama_quantizes(models: Models, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.gguf"
    write_quantized(plan(GgufModel(models.small), name), out, threads=2)
    assert quantized.digest(out.read_bytes()) == RECORDED["whole"][name]


def test_types_of_tensors_are_llama_quantizes(models: Models) -> None:
    for model, recorded in (models.deep, RECORDED["headers"]), (models.large, RECORDED["large headers"]):
        file = GgufModel(model)
        found = {name: quantized.digest(plan(file, name).header) for name in recorded}
        assert found == recorded


def test_the_command_writes_what_it_says(models: Models, ck_main: Any, tmp_path: Path) -> None:
    words = ("quantize", str(models.small), str(tmp_path / "x.gguf"), "--type", "q4_k", "--imatrix")
    result = ck_main(*words, quantized.MATRIX)
    name = "a model \u2192 to quantise"
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        f"{tmp_path / 'x.gguf'}: Q4_K_M, 0.30 MiB, 10 q4_k, 5 f32, 3 q6_k, 2 q5_0\n"
        "13 of 15 tensors by the importance matrix\n"
    )
    written = (tmp_path / "x.gguf").read_bytes()
    assert quantized.digest(written) == RECORDED["whole"]["Q4_K_M --imatrix imatrix.gguf"]
    dry = ck_main("quantize", str(models.small), "--type", "Q4_0", "--dry-run")
    assert dry.out == f"{name}: would be Q4_0, 0.28 MiB, 14 q4_0, 5 f32, 1 q6_k\n"
    dry = json.loads(ck_main(*words[:3], "--type", "q8_0", "--dry-run", "--force", "--json").out)
    assert (dry["model"], dry["type"], dry["path"]) == (name, "Q8_0", None)
    assert dry["tensors"][1] == {
        "name": "token_embd.weight", "from": "f32", "to": "q8_0", "weighted": False,
    }  # fmt: skip
    assert (tmp_path / "x.gguf").read_bytes() == written


def test_what_is_quantised_is_quantised_again_when_asked(
    models: Models, ck_main: Any, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    assert ck_main("quantize", str(models.small), str(first), "--type", "Q8_0").code == 0
    words = ("quantize", str(first), str(second), "--type", "q4_0")
    result = ck_main(*words)
    assert (result.code, second.exists()) == (2, False)
    assert result.err == (
        "ck: first.gguf: token_embd.weight must be f32, f16 or bf16 to be quantised, found q8_0; "
        "give --allow-requantize, which costs quality\n"
    )
    assert ck_main(*words, "--allow-requantize").code == 0
    tensors = GgufFile(second).tensors
    assert tensors["token_embd.weight"].storage.name == "q6_k"
    assert tensors["blk.0.ffn_down.weight"].storage.name == "q4_0"


REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "type": (("--type", "q4_2"), 2, "--type: must be one of F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, "
             "Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1, Q4_0, IQ4_NL, IQ4_XS, Q3_K_L, Q3_K_M, Q3_K_S, Q2_K, found "
             "q4_2"),
    "storage": (("--type", "q4_0", "--output-tensor-type", "Q4_K_M"), 2, "--output-tensor-type: must be one "
                f"of {', '.join(STORAGE_TYPES)}, found Q4_K_M"),
    "rows": (("--type", "q4_0", "--token-embedding-type", "q6_k"), 2, "token_embd.weight: rows must be "
             "multiples of 256 to be q6_k, found 64"),
    "matrix": (("--type", "q4_0", "--imatrix", "none.gguf"), 2, "none.gguf: the file cannot be read: "),
    "exists": (("--type", "q4_0"), 9, "there.gguf: must be a new file, found one; choose another name, or "
               "give --force"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(models: Models, ck_main: Any, tmp_path: Path, case: str) -> None:
    options, code, message = REFUSED[case]
    from tests.frontend.make_gguf import write_tiny

    there = tmp_path / "there.gguf"
    there.write_bytes(b"as it was")
    words = ("quantize", str(write_tiny(tmp_path / "tiny.gguf")), str(there), *options)
    result = ck_main(*words)
    assert (result.code, result.out) == (code, "")
    assert ck_main(*words, "--dry-run") == result
    assert message in result.err
    assert there.read_bytes() == b"as it was"


def test_a_model_is_not_written_over_itself(models: Models, ck_main: Any, tmp_path: Path) -> None:
    model, link = tmp_path / "model.gguf", tmp_path / "link.gguf"
    shutil.copy(models.small, model)
    os.link(model, link)
    result = ck_main("quantize", str(model), str(link), "--type", "q4_0", "--force")
    assert result.code == 2
    assert result.err == f"ck: {link}: must be another file than what is read; choose another name\n"
    (tmp_path / "folder").mkdir()
    result = ck_main("quantize", str(model), str(tmp_path / "folder"), "--type", "q4_0", "--force")
    assert (result.code, result.err) == (
        2, f"ck: {tmp_path}/folder: must be a plain file to be replaced, found something else\n"
    )  # fmt: skip
    shutil.copy(models.small.with_name(quantized.MATRIX), tmp_path / "matrix")
    words = ("quantize", str(model), "--type", "q4_0", "--force", "--imatrix", str(tmp_path / "matrix"))
    result = ck_main(*words, str(tmp_path / "matrix"))
    assert (result.code, read_importance(str(tmp_path / "matrix")).n_chunks > 0) == (2, True)
    assert result.err.endswith("/matrix: must be another file than what is read; choose another name\n")
    assert ck_main("quantize", str(model), "--type", "q4_0").err == (
        "ck: quantize: missing argument OUT, the file to write; see: ck quantize --help\n"
    )


def changed(model: Path, path: Path, name: str, value: float) -> Path:
    """The model with one number of tensor `name` changed."""
    tensor = GgufFile(model).tensors[name]
    data = bytearray(model.read_bytes())
    data[tensor.offset + 400 : tensor.offset + 404] = np.float32(value).tobytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("of", "value", "code", "message"),
    [
        ("q4_0", np.nan, 3, "blk.1.ffn_up.weight: must hold finite numbers only, found others"),
        (
            "q8_0",
            1e9,
            4,
            "blk.1.ffn_up.weight: q8_0 has a smaller range than the numbers, found 1e+09; choose bf16",
        ),
        (
            "q6_k",
            1e9,
            4,
            "blk.1.ffn_up.weight: q6_k has a smaller range than the numbers, found 1e+09; choose bf16",
        ),
        (
            "f16",
            7e4,
            4,
            "blk.1.ffn_up.weight: f16 has a smaller range than the numbers, found 70000; choose bf16",
        ),
    ],
)
def test_numbers_that_a_type_cannot_hold(
    models: Models, ck_main: Any, tmp_path: Path, of: str, value: float, code: int, message: str
) -> None:
    model = changed(models.small, tmp_path / "model.gguf", "blk.1.ffn_up.weight", value)
    result = ck_main("quantize", str(model), "out.gguf", "--type", of)
    assert (result.code, result.err) == (code, f"ck: {message}\n")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["model.gguf"]


def test_a_disk_that_is_too_small_is_refused_before(
    models: Models, ck_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=999))
    out = tmp_path / "out.gguf"
    words = ("quantize", str(models.small), str(out), "--type", "q4_0")
    result = ck_main(*words)
    assert (result.code, out.exists()) == (8, False)
    assert ck_main(*words, "--dry-run") == result
    assert result.err == (
        f"ck: {out}: needs 294 kB free on its disk, found 999 bytes; free some, or choose another place\n"
    )


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit(143)])
def test_nothing_is_left_of_a_run_that_was_stopped(
    models: Models, ck_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: Any
) -> None:
    def stop(*given: object) -> None:
        raise ending

    out = tmp_path / "out.gguf"
    out.write_bytes(b"as it was")
    with monkeypatch.context() as patch:
        patch.setattr(quantized_file, "quantize_rows", stop)
        words = ("quantize", str(models.small), str(out), "--type", "q4_0", "--force")
        if ending is KeyboardInterrupt:
            assert ck_main(*words).code == 130
        else:
            with pytest.raises(SystemExit):
                ck_main(*words)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.gguf"]
    assert out.read_bytes() == b"as it was"
    assert ck_main(*words).code == 0
    assert GgufFile(out).metadata["general.file_type"] == 2


def test_alignment_of_the_file_is_kept(models: Models, ck_main: Any, tmp_path: Path) -> None:
    raw = parse(models.small.read_bytes())
    raw.set("general.alignment", U32, u32(64))
    raw.alignment, data = 64, b""
    for tensor in raw.tensors:
        stored = GgufFile(models.small).raw(tensor.name.decode()).tobytes()
        tensor.offset, data = len(data), data + stored + bytes(-len(stored) % 64)
    raw.data = data
    (tmp_path / "model.gguf").write_bytes(raw.pack())
    assert (
        ck_main("quantize", str(tmp_path / "model.gguf"), str(tmp_path / "out.gguf"), "--type", "q4_0").code
        == 0
    )
    assert ck_main("quantize", str(models.small), str(tmp_path / "plain.gguf"), "--type", "q4_0").code == 0
    file, plain = GgufFile(tmp_path / "out.gguf"), GgufFile(tmp_path / "plain.gguf")
    for name, tensor in file.tensors.items():
        assert tensor.offset % 64 == 0
        assert np.array_equal(file.raw(name), plain.raw(name))


MATRICES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": (OLDER, lambda data: b"", "the number of entries must lie within the file, 0 bytes"),
    "none": (OLDER, lambda data: bytes(4), "the number of entries must be 1 to 65536, found 0"),
    "cut": (OLDER, lambda data: data[:900], "values must lie within the file, "),
    "length": (OLDER, lambda data: data[:4] + b"\xff" * 4 + data[8:], "the length of an entry's name"),
    "nan": (OLDER, lambda data: data[:40] + b"\xff" * 4 + data[44:], "must hold finite numbers only"),
    "pair": (MATRIX, lambda data: data.replace(b".counts", b".kounts"), "must have sums and counts"),
    "key": (MATRIX, lambda data: data.replace(b"chunk_count", b"chunk_kount"), "imatrix.chunk_count"),
    "cut header": (MATRIX, lambda data: data[:200], "26 tensors take at least"),
}  # fmt: skip


@pytest.mark.parametrize("case", MATRICES)
def test_a_damaged_matrix_is_one_line(models: Models, ck_main: Any, tmp_path: Path, case: str) -> None:
    name, change, message = MATRICES[case]
    path = tmp_path / name
    path.write_bytes(change((models.small.parent / name).read_bytes()))
    result = ck_main(
        "quantize", str(models.small), str(tmp_path / "x.gguf"), "--type", "q4_0", "--imatrix", str(path)
    )
    assert (result.code, result.out) == (3, ""), result
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("name", [MATRIX, OLDER])
@pytest.mark.filterwarnings("error")
def test_any_edit_of_a_matrix_gives_weights_or_one_line(models: Models, tmp_path: Path, name: str) -> None:
    rng, whole = np.random.default_rng(3), (models.small.parent / name).read_bytes()
    path, refused = tmp_path / name, list[str]()
    for _ in range(150):
        data = np.frombuffer(whole, np.uint8)[: rng.integers(1, 2 * len(whole))].copy()
        data[rng.integers(0, min(len(data), 4000), 3)] = rng.choice([0, 1, 127, 128, 255], 3)
        path.write_bytes(data.tobytes())
        try:
            weights = read_importance(str(path)).weights
            assert all(np.isfinite(each).all() for each in weights.values())
        except CkError as error:
            refused.append(str(error))
    assert 75 < len(refused) < 150
    assert not any("\n" in line for line in refused)


def test_a_file_that_is_far_too_long_is_no_matrix(
    ck_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long").write_bytes(bytes(2000))
    monkeypatch.setattr(importance, "_LIMIT_BYTES", 1000)
    result = ck_main("quantize", "none.gguf", "x.gguf", "--type", "q4_0", "--imatrix", "long")
    assert (result.code, result.err) == (
        3, "ck: long: an importance matrix has at most 0 MiB, found more\n",
    )  # fmt: skip


def test_a_matrix_of_another_model_is_refused(models: Models, ck_main: Any, tmp_path: Path) -> None:
    from tests.frontend.make_gguf import write_tiny

    tiny = write_tiny(tmp_path / "tiny.gguf")
    result = ck_main("quantize", str(tiny), "x.gguf", "--type", "q4_0", "--imatrix", quantized.MATRIX)
    assert (result.code, Path("x.gguf").exists()) == (3, False)
    assert result.err == (
        "ck: imatrix.gguf: blk.0.attn_k.weight must have 64 columns, found 256; it is of another model\n"
    )
