"""Whatever is done to a model file, it is read or ends in one line, soon.

`CK_HOSTILE=20000` draws so many files in place of the few, the same each time, of the suite: `make hostile`.
"""

import os
import re
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ck.errors import MalformedError, UnsupportedError
from tests.frontend.hostile import FAMILIES, Edit, edited, of_bytes, of_parts
from tests.frontend.make_gguf import write_tiny
from tests.frontend.raw_gguf import RawFile, parse
from tests.frontend.reading import read_all
from tests.frontend.split_files import split, write
from tests.fuzz.grown import write_grown

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
GIVEN = os.environ.get("CK_HOSTILE")
SETTINGS = settings(
    max_examples=int(GIVEN or 120),
    derandomize=GIVEN is None,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# The file or one of its parts, a family whose heads no kernel takes, a template.
PREFIX = re.compile(rf"x(-0000\d-of-00003)?\.gguf: |({'|'.join(FAMILIES)}): heads|a chat template")
# Of processor time: other tests run beside this one.
SECONDS, MESSAGE_CHARS = 1.0, 700


@cache
def valid(pairs: bool) -> RawFile:
    with tempfile.TemporaryDirectory() as folder:
        return parse(write_tiny(Path(folder) / "valid.gguf", pairs).read_bytes())


def read_or_refused(path: Path, data: bytes | None = None) -> None:
    if data is not None:
        path.write_bytes(data)
    start = time.process_time()
    with warnings.catch_warnings():
        # A number that overflows is a number that was not checked.
        warnings.simplefilter("error")
        try:
            read_all(path)
        except (MalformedError, UnsupportedError) as error:
            text = str(error)
            assert "\n" not in text
            assert len(text) <= MESSAGE_CHARS
            assert PREFIX.match(text), text
    assert time.process_time() - start < SECONDS


@SETTINGS
@given(pairs=st.booleans(), edits=of_bytes)
def test_any_bytes_in_the_header(tmp_path: Path, pairs: bool, edits: list[Edit]) -> None:
    read_or_refused(tmp_path / "x.gguf", edited(valid(pairs), [], edits))


@SETTINGS
@given(pairs=st.booleans(), edits=of_parts)
def test_any_values_of_keys_words_and_tensors(tmp_path: Path, pairs: bool, edits: list[Edit]) -> None:
    read_or_refused(tmp_path / "x.gguf", edited(valid(pairs), edits, []))


@SETTINGS
@given(pairs=st.booleans(), edits=of_parts, then=of_bytes)
def test_both(tmp_path: Path, pairs: bool, edits: list[Edit], then: list[Edit]) -> None:
    read_or_refused(tmp_path / "x.gguf", edited(valid(pairs), edits, then))


@SETTINGS
@given(number=st.integers(0, 2), named=st.integers(0, 2), edits=of_parts, then=of_bytes)
def test_any_edit_of_a_part(
    tmp_path: Path, number: int, named: int, edits: list[Edit], then: list[Edit]
) -> None:
    parts = split(valid(False))
    paths = write(parts, tmp_path / "split", "x")
    paths[number].write_bytes(edited(parts[number], edits if number == 0 else edits[:1], then[:1]))
    read_or_refused(paths[named])


@SETTINGS
@given(size=st.integers(0, 400_000), pairs=st.booleans())
def test_any_truncation(tmp_path: Path, size: int, pairs: bool) -> None:
    data = valid(pairs).pack()
    read_or_refused(tmp_path / "x.gguf", data[: size % (len(data) + 1)])


@SETTINGS
@given(data=st.binary(max_size=300))
def test_any_bytes_at_all(tmp_path: Path, data: bytes) -> None:
    read_or_refused(tmp_path / "x.gguf", data)
    read_or_refused(tmp_path / "x.gguf", b"GGUF\x03\0\0\0" + data)


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_the_fuzzer_kept(tmp_path: Path, path: Path) -> None:
    """Files that reached something new: tests/fuzz/gguf_reader.py."""
    grown = tmp_path / "x.gguf"
    write_grown(grown, path.read_bytes())
    read_or_refused(grown, grown.read_bytes())


def test_no_edit_gives_the_valid_file(tmp_path: Path) -> None:
    for raw in map(valid, (False, True)):
        path = tmp_path / "x.gguf"
        path.write_bytes(edited(raw, [], []))
        assert path.read_bytes() == raw.pack()
        read_all(path)
