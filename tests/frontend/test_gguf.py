"""The GGUF reader against the gguf package on a valid file, and its speed on large arrays of strings."""

import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from ck.errors import MalformedError, UsageError
from ck.frontend.gguf import GgufFile


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.gguf"
    writer = gguf.GGUFWriter(path, "tiny")
    writer.add_uint32("tiny.count", 7)
    writer.add_float32("tiny.eps", 0.5)
    writer.add_bool("tiny.flag", True)
    writer.add_string("tiny.name", "grüße")
    writer.add_array("tiny.texts", ["a", "", "ß"])
    writer.add_array("tiny.integers", [1, -2, 3])
    writer.add_array("tiny.flags", [True, False])
    writer.add_tensor("a.weight", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.add_tensor("b.weight", np.arange(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_metadata_and_tensors_are_what_was_written(sample: Path) -> None:
    file = GgufFile(sample)
    meta = file.metadata
    assert meta.text("general.architecture") == "tiny"
    assert (meta.integer("tiny.count"), meta.number("tiny.eps"), meta.flag("tiny.flag")) == (7, 0.5, True)
    assert (meta.text("tiny.name"), meta.strings("tiny.texts")) == ("grüße", ["a", "", "ß"])
    assert meta.numbers("tiny.integers", "i32").tolist() == [1, -2, 3]
    assert meta.numbers("tiny.flags", "bool").tolist() == [True, False]
    assert meta.type_name("tiny.texts") == "array of 3 strings"
    assert list(file.tensors) == ["a.weight", "b.weight"]
    assert file.tensors["a.weight"].shape == (3, 4)
    assert file.raw("a.weight").view(np.float32).tolist() == list(range(12))
    assert file.raw("b.weight").view(np.float16).tolist() == list(range(5))
    assert not file.raw("a.weight").flags.writeable


def test_typed_access_names_the_key_and_what_it_is(sample: Path) -> None:
    meta = GgufFile(sample).metadata
    with pytest.raises(MalformedError, match=r"sample.gguf: key tiny.none is required, the file has none"):
        meta.integer("tiny.none")
    with pytest.raises(MalformedError, match=r"key tiny.texts must be an integer, found array of 3 strings"):
        meta.integer("tiny.texts", 3)
    with pytest.raises(
        MalformedError, match=r"key tiny.integers must be an array of f32s, found array of 3 i32s"
    ):
        meta.numbers("tiny.integers", "f32")
    assert meta.integer("tiny.none", 3) == 3


def test_views_outlive_the_file_and_dropped_pages_come_back(sample: Path) -> None:
    file = GgufFile(sample)
    view, tensor = file.raw("a.weight").view(np.float32), file.tensors["a.weight"]
    file.drop_pages(tensor.offset, tensor.n_bytes)
    file.close()
    assert view.tolist() == list(range(12))


def test_digest_sees_the_header_and_the_size_only(sample: Path, tmp_path: Path) -> None:
    data = bytearray(sample.read_bytes())
    digest = GgufFile(sample).header_digest()
    data[-1] ^= 1
    other = tmp_path / "other.gguf"
    other.write_bytes(data)
    assert GgufFile(other).header_digest() == digest
    other.write_bytes(data + b"\0")
    assert GgufFile(other).header_digest() != digest


def test_a_path_that_is_no_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="regular file"):
        GgufFile(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        GgufFile(tmp_path / "absent.gguf")


def test_fifty_thousand_strings_take_under_50_ms(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    writer = gguf.GGUFWriter(path, "tiny")
    writer.add_array("tiny.texts", [f"token {index}" for index in range(50_000)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        file = GgufFile(path)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
    assert file.metadata.strings("tiny.texts")[49_999] == "token 49999"
