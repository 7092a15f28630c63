"""Files that were split into parts: any part leads to the whole, and one that is wrong is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import ck
from ck.errors import CkError, MalformedError, UsageError
from ck.frontend.gguf import GgufFile, part_names
from ck.frontend.model import GgufModel, open_model
from ck.runtime.resolve import resolve_model
from tests.frontend.make_gguf import write_tiny
from tests.frontend.raw_gguf import I32, STRING, U16, RawFile, parse, text, u16, u32
from tests.frontend.split_files import split, write

N_PARTS, N_TENSORS = 3, 21


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("whole") / "whole.gguf")


@pytest.fixture
def parts(whole: Path) -> list[RawFile]:
    return split(parse(whole.read_bytes()))


def same(found: GgufModel, whole: Path) -> None:
    """Keys, numbers, vocabulary, tensors and their bytes are those of the file in one piece."""
    expected = GgufModel(whole)
    assert found.hyperparameters() == expected.hyperparameters()
    assert (found.words(), found.chat_template) == (expected.words(), expected.chat_template)
    assert list(found.tensors) == list(expected.tensors)
    for name, tensor in expected.tensors.items():
        assert (found.tensors[name].shape, found.tensors[name].storage) == (tensor.shape, tensor.storage)
        assert np.array_equal(found.raw(name), expected.raw(name))
        assert np.array_equal(found.rows(name, 1, 2), expected.rows(name, 1, 2))


@pytest.mark.parametrize("first_is_empty", [False, True])
def test_any_part_leads_to_the_whole(whole: Path, tmp_path: Path, first_is_empty: bool) -> None:
    paths = write(split(parse(whole.read_bytes()), 3, first_is_empty), tmp_path / "split")
    for path in paths:
        file = GgufModel(path)
        same(file, whole)
        assert file.path == paths[0]
        assert [part.path for part in file.parts] == paths
    file.drop_rows("output.weight", 0, 9)
    file.drop_header_pages()
    same(file, whole)


def test_parts_that_the_gguf_package_writes(whole: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(whole)
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama", split_max_tensors=6)
    for name, entry in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind = entry.types[0]
            of = entry.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, entry.contents(), kind, sub_type=of)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    paths = sorted(tmp_path.glob("theirs-*.gguf"))
    assert [path.name for path in paths] == part_names("theirs-00002-of-00004.gguf")
    same(GgufModel(paths[2]), whole)


def test_the_digest_and_the_record_cover_every_part(parts: list[RawFile], tmp_path: Path) -> None:
    paths = write(parts, tmp_path / "split")
    first, last = GgufModel(paths[0]), GgufModel(paths[2])
    digest = first.header_digest()
    assert last.header_digest() == digest
    assert last.record() == first.record()
    record = first.record()
    assert record["header_sha256"] == digest
    assert [part["path"] for part in record["parts"]] == list(map(str, paths))
    assert [part["header_sha256"] for part in record["parts"]] == [
        GgufFile(path).header_digest() for path in paths
    ]
    for path in paths:
        data = path.read_bytes()
        path.write_bytes(data + b"\0")
        assert GgufModel(paths[0]).header_digest() != digest
        path.write_bytes(data)


def test_a_count_of_one_or_none_is_a_whole_file(whole: Path, tmp_path: Path) -> None:
    raw = parse(whole.read_bytes())
    path = tmp_path / "any name-00002-of-00003.gguf"
    # llama.cpp's tool sets the count to 0 when it joins parts, and leaves the other keys.
    for count in (0, 1):
        raw.set("split.count", U16, u16(count))
        raw.set("split.no", U16, u16(0))
        path.write_bytes(raw.pack())
        same(GgufModel(path), whole)
        assert GgufModel(path).record()["file"] == "model.gguf"


def test_a_nameless_model_is_called_by_its_files(parts: list[RawFile], tmp_path: Path) -> None:
    parts[0].remove("general.name")
    assert GgufModel(write(parts, tmp_path / "split", "Llama 8B")[1]).name == "Llama 8B"


Change = Callable[[list[RawFile], Path], None]


def _part(number: int, key: str, kind: int, payload: bytes) -> Change:
    return lambda parts, folder: parts[number].set(key, kind, payload)


def _twice(parts: list[RawFile], folder: Path) -> None:
    again, part = parts[0].tensors[-1], parts[2]
    again = type(again)(again.name, again.dims, again.kind, len(part.data))
    part.tensors.append(again)
    part.data += bytes(4 * int(np.prod(again.dims)))


def _short(parts: list[RawFile], folder: Path) -> None:
    parts[1].tensors.pop()


def _none(parts: list[RawFile], folder: Path) -> None:
    parts[1].remove("split.no")


# What is wrong, which part is named on the command line, the file that the message starts with, its words.
WRONG: dict[str, tuple[Change, int, int, str]] = {
    "no-order": (
        _part(1, "split.no", U16, u16(2)),
        0,
        1,
        r"split.no must be 1 and split.count 3, .* 2 and 3",
    ),
    "repeats": (_part(2, "split.no", U16, u16(0)), 0, 2, r"split.no must be 2 .*, found 0 and 3"),
    "of-more": (
        _part(1, "split.count", U16, u16(4)),
        0,
        1,
        r"split.count 3, as the name says, found 1 and 4",
    ),
    "of-none": (_part(1, "split.count", U16, u16(0)), 0, 1, r"split.no must be 1 .*, found 0 and 1"),
    "no-number": (_none, 0, 1, r"key split.no is required, the file has none"),
    "number-text": (
        _part(1, "split.no", STRING, text("1")),
        0,
        1,
        r"split.no must be an integer, found string",
    ),
    "number-past": (_part(1, "split.no", U16, u16(3)), 0, 1, r"split.no must be below the 3 parts, found 3"),
    "count-many": (_part(0, "split.count", U16, u16(4097)), 0, 0, r"must be from 0 to 4096, found 4097"),
    "count-text": (_part(0, "split.count", STRING, text("3")), 0, 0, r"must be an integer, found string"),
    "renamed": (_part(1, "split.no", U16, u16(0)), 1, 1, r"must end in -00001-of-00003.gguf, as split.no 0"),
    "foreign": (_part(1, "split.tensors.count", I32, u32(99)), 2, 1, r"is 99 here and 21 there"),
    "foreign-arch": (
        _part(1, "general.architecture", STRING, text("qwen3")),
        0,
        1,
        r"must be a part of the same model as m-00001-of-00003.gguf, its general.architecture is another",
    ),
    "twice": (_twice, 0, 2, r"must be in one part, m-00001-of-00003.gguf has it too"),
    "short": (_short, 0, 0, r"the 3 parts must have 21 tensors, .* they have 20; one is another model's"),
    "total-text": (
        _part(2, "split.tensors.count", STRING, text("")),
        0,
        2,
        r"must be an integer, found string",
    ),
    "total-none": (lambda parts, folder: parts[1].remove("split.tensors.count"), 0, 1, r"count is required"),
    "cut": (
        lambda parts, folder: setattr(parts[2], "data", parts[2].data[:-64]),
        0,
        2,
        r"must end within the",
    ),
    "version": (lambda parts, folder: setattr(parts[2], "version", u32(7)), 1, 2, r"must be 2 or 3, found 7"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_part_is_named(parts: list[RawFile], tmp_path: Path, name: str) -> None:
    change, given, at, words = WRONG[name]
    change(parts, tmp_path)
    paths = write(parts, tmp_path / "split")
    with pytest.raises(MalformedError, match=words) as caught:
        open_model(paths[given])
    assert str(caught.value).startswith(f"m-{at + 1:05d}-of-00003.gguf: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", range(N_PARTS))
def test_a_missing_part_is_named(parts: list[RawFile], tmp_path: Path, missing: int) -> None:
    paths = write(parts, tmp_path / "split")
    paths[missing].unlink()
    given, name = paths[(missing + 1) % N_PARTS], paths[missing].name
    words = f"^{given.name}: its part {name} must lie beside it, it is not there; download it too$"
    with pytest.raises(MalformedError, match=words):
        GgufModel(given)
    # A cache may link to what was removed.
    os.symlink(tmp_path / "nowhere", paths[missing])
    with pytest.raises(MalformedError, match=words):
        GgufModel(given)
    paths[missing].unlink()
    paths[missing].mkdir()
    with pytest.raises(UsageError, match="must be a regular file, found something else"):
        GgufModel(given)


def test_a_part_of_another_model_lacks_tensors(parts: list[RawFile], tmp_path: Path) -> None:
    for tensor in parts[1].tensors:
        tensor.name = tensor.name.replace(b"blk.", b"other.")
    with pytest.raises(
        CkError, match=r"tensor blk\.\d\.\w+\.weight is required|variant that ck does not have"
    ):
        open_model(write(parts, tmp_path / "split")[0])


def test_names_of_parts() -> None:
    assert part_names("a-00002-of-00003.gguf") == [f"a-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    for name in (
        "a.gguf",
        "a-2-of-3.gguf",
        "-00001-of-00002.gguf",
        "a-00000-of-00002.gguf",
        "a-00003-of-00002.gguf",
        "a-0000\u0662-of-00003.gguf",
    ):
        assert part_names(name) == [name]
    assert part_names("a-00001-of-99999.gguf") == ["a-00001-of-99999.gguf"]


def test_a_program_of_parts_runs_as_that_of_the_whole(
    whole: Path, parts: list[RawFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "cache"))
    paths = write(parts, tmp_path / "split")
    settings: dict[str, Any] = {"context_len": 32, "chunk": 8, "backend": "llvm"}
    expected = ck.compile(whole, **settings)([1, 270, 260])
    model = ck.compile(paths[1], **settings)
    assert np.array_equal(model([1, 270, 260]), expected)
    # Its directory is a model as well: each part has a link, by a name that says which one it is.
    run = Path(model.info["directory"])
    record = json.loads((run / "run.json").read_text())["model"]
    links = [part["file"] for part in record["parts"]]
    assert links == part_names("model-00001-of-00003.gguf")
    assert [(run / link).resolve() for link in links] == paths
    assert resolve_model(str(run)) == run / links[0]
    assert np.array_equal(ck.compile(run, **settings)([1, 270, 260]), expected)


def test_version_2_is_version_3_by_another_number(whole: Path, tmp_path: Path) -> None:
    raw = parse(whole.read_bytes())
    raw.version = u32(2)
    path = tmp_path / "two.gguf"
    path.write_bytes(raw.pack())
    same(GgufModel(path), whole)
    theirs = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    assert list(theirs) == list(GgufModel(path).tensors)
    assert all(
        np.array_equal(theirs[name].view(np.uint8).ravel(), GgufModel(path).raw(name)) for name in theirs
    )
    # Lengths of version 1 take 4 bytes: it is another format, which nobody writes any more.
    raw.version = u32(1)
    path.write_bytes(raw.pack())
    with pytest.raises(MalformedError, match=r"must be 2 or 3, found 1; convert the model again"):
        GgufModel(path)
