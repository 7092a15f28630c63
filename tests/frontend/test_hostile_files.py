"""Whatever is done to a model file, it is read or ends in one line, soon.

`CK_HOSTILE=20000` draws so many files in place of the few, the same each time, of the suite: `make hostile`.
"""

import os
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ck.errors import MalformedError, UnsupportedError
from tests.frontend.hostile import FAMILIES, Edit, edited, of_bytes, of_parts
from tests.frontend.make_gguf import write_tiny
from tests.frontend.raw_gguf import RawFile, parse
from tests.frontend.reading import read_all
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
# Half of what a message may be told to have; other tests run beside this one.
SECONDS, MESSAGE_CHARS = 4.0, 700


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, RawFile]:
    folder = tmp_path_factory.mktemp("valid")
    return {pairs: parse(write_tiny(folder / f"{pairs}.gguf", pairs).read_bytes()) for pairs in (False, True)}


def read_or_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    start = time.monotonic()
    with warnings.catch_warnings():
        # A number that overflows is a number that was not checked.
        warnings.simplefilter("error")
        try:
            read_all(path)
        except (MalformedError, UnsupportedError) as error:
            text = str(error)
            assert "\n" not in text
            assert len(text) <= MESSAGE_CHARS
            assert text.startswith(
                (f"{path.name}: ", *(f"{name}: heads" for name in FAMILIES), "a chat template")
            )
    assert time.monotonic() - start < SECONDS


@SETTINGS
@given(pairs=st.booleans(), edits=of_bytes)
def test_any_bytes_in_the_header(
    valid: dict[bool, RawFile], tmp_path: Path, pairs: bool, edits: list[Edit]
) -> None:
    read_or_refused(tmp_path / "x.gguf", edited(valid[pairs], [], edits))


@SETTINGS
@given(pairs=st.booleans(), edits=of_parts)
def test_any_values_of_keys_words_and_tensors(
    valid: dict[bool, RawFile], tmp_path: Path, pairs: bool, edits: list[Edit]
) -> None:
    read_or_refused(tmp_path / "x.gguf", edited(valid[pairs], edits, []))


@SETTINGS
@given(pairs=st.booleans(), edits=of_parts, then=of_bytes)
def test_both(
    valid: dict[bool, RawFile], tmp_path: Path, pairs: bool, edits: list[Edit], then: list[Edit]
) -> None:
    read_or_refused(tmp_path / "x.gguf", edited(valid[pairs], edits, then))


@SETTINGS
@given(size=st.integers(0, 400_000), pairs=st.booleans())
def test_any_truncation(valid: dict[bool, RawFile], tmp_path: Path, size: int, pairs: bool) -> None:
    data = valid[pairs].pack()
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


def test_no_edit_gives_the_valid_file(valid: dict[bool, RawFile], tmp_path: Path) -> None:
    for raw in valid.values():
        path = tmp_path / "x.gguf"
        path.write_bytes(edited(raw, [], []))
        assert path.read_bytes() == raw.pack()
        read_all(path)
