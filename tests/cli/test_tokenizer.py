"""`ck tokenizer`: from text to shards on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Result

TEXT = "def add(a, b):\n    return a + b\n" * 40


@pytest.fixture
def data(ck_main: Any) -> Path:
    """Two files in the working directory of `ck_main`."""
    Path("data").mkdir()
    Path("data/a.py").write_text(TEXT)
    Path("data/b.jsonl").write_text('{"text": "return b"}\n{"text": "return <tag>"}\n')
    return Path("data")


def train(ck_main: Any, *words: str) -> Result:
    result: Result = ck_main("tokenizer", "train", "data", "--vocab-size", "265", "-o", "made/t.json", *words)
    return result


def test_from_text_to_shards(ck_main: Any, data: Path) -> None:
    trained = train(ck_main, "--special", "<tag>")
    assert trained == (0, "made/t.json: bpe of 265 tokens, 2 reserved\n", "")
    proved = ck_main("tokenizer", "roundtrip", "made/t.json", "data")
    assert proved.code == 0
    rows = dict(line.rsplit(maxsplit=1) for line in proved.out.splitlines())
    assert (rows["documents"], rows["bytes"], rows["different"]) == ("3", str(len(TEXT) + 20), "0")
    assert float(rows["bytes a token"]) == pytest.approx(int(rows["bytes"]) / int(rows["tokens"]), abs=5e-4)
    encoded = ck_main("tokenizer", "encode", "made/t.json", "data", "-o", "shards")
    assert encoded.code == 0
    assert [line.split()[:2] for line in encoded.out.splitlines()[1:]] == [["train", "2"], ["dev", "1"]]
    assert sorted(file.name for file in Path("shards").iterdir()) == [
        "dev-00000.bin",
        "index.json",
        "train-00000.bin",
    ]
    # A directory with a tokenizer.json is a tokenizer too.
    Path("made/t.json").rename("made/tokenizer.json")
    assert ck_main("tokenizer", "roundtrip", "made", "data") == proved


def test_json(ck_main: Any, data: Path) -> None:
    trained = json.loads(train(ck_main, "--kind", "ascii_bpe", "--vocab-size", "110", "--json").out)
    assert trained["schema_version"] == 1
    assert (trained["kind"], trained["n_vocab"], trained["reserved"]) == (
        "ascii_bpe",
        110,
        {"<|endoftext|>": 0},
    )
    proved = json.loads(ck_main("tokenizer", "roundtrip", "made/t.json", "data", "--json").out)
    assert (proved["n_documents"], proved["n_mismatches"], proved["first"]) == (3, 0, None)
    words = ("tokenizer", "encode", "made/t.json", "data", "-o", "shards", "--dev-fraction", "0.5", "--json")
    encoded = json.loads(ck_main(*words).out)
    assert encoded["tokenizer_sha256"] == trained["sha256"]
    assert (encoded["train"]["n_documents"], encoded["dev"]["n_documents"]) == (1, 2)


def test_a_failed_round_trip_is_a_gate(ck_main: Any, data: Path) -> None:
    train(ck_main)
    raw = json.loads(Path("made/t.json").read_text())
    raw["model"] |= {"vocab": {"<|endoftext|>": 0, "d": 1, "e": 2, "f": 3}, "merges": []}
    Path("made/t.json").write_text(json.dumps(raw))
    result = ck_main("tokenizer", "roundtrip", "made/t.json", "data", "--json")
    assert result.code == 5
    assert json.loads(result.out)["first"]["offset"] == 3
    assert result.err.startswith("ck: data/a.py:1: byte 3 of the document: must be ")
    assert result.err.endswith(" (3 of 3 documents differ); train a tokenizer on this text\n")
    encoded = ck_main("tokenizer", "encode", "made/t.json", "data", "-o", "shards")
    assert encoded.code == 5
    assert encoded.err.startswith("ck: data/a.py:1: the tokenizer must have tokens for all of the text")


def test_bad_text_ends_in_one_line(ck_main: Any, data: Path) -> None:
    Path("data/c.txt").write_bytes(b"fine\nno\r\n")
    assert train(ck_main) == (
        3,
        "",
        "ck: data/c.txt:2: lines must end in LF, found CR LF; run: ck tokenizer clean\n",
    )
    Path("data/c.txt").write_text("fine\nna\u00efve\n")
    result = train(ck_main, "--kind", "ascii_bpe")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("ck: data/c.txt:2: must be printable ASCII, tab, LF and CR, found U+00EF")
    assert not Path("made").exists()
    assert ck_main("tokenizer", "train", "nix").code == 2
    assert ck_main("tokenizer", "train", "data", "--vocab-size", "9").err.startswith(
        "ck: tokenizer: the vocabulary size must be at least 257"
    )


def test_clean_says_what_it_changed(ck_main: Any, data: Path) -> None:
    Path("data/c.txt").write_bytes("\ufeffna\u00efve \u2026\u2026\r\n\u65e5\u200b\0\n".encode())
    cleaned = ck_main("tokenizer", "clean", "data", "-o", "out")
    assert cleaned.code == 0
    assert cleaned.out.splitlines() == [
        "out: 3 files",
        "CR LF became LF              1",
        "NUL removed                  1",
        "byte order marks removed     1",
        "characters spelled in ASCII  5",
        "  U+2026 horizontal ellipsis                  ...     2",
        "  U+00EF latin small letter i with diaeresis  i       1",
        "  U+200B zero width space                     (gone)  1",
        "  U+65E5 cjk unified ideograph-65e5           ?       1",
    ]
    assert Path("out/data/c.txt").read_text() == "naive ......\n?\n"
    assert ck_main("tokenizer", "train", "out", "--kind", "ascii_bpe", "--vocab-size", "100").code == 0
    again = ck_main("tokenizer", "clean", "out", "-o", "twice")
    assert again.out == "twice: 3 files\nnothing  had to be changed\n"
    facts = json.loads(ck_main("tokenizer", "clean", "data/c.txt", "-o", "kept", "--unicode", "--json").out)
    assert (facts["files"], facts["n_nul"], facts["characters"]) == (["kept/c.txt"], 1, [])
    assert Path("kept/c.txt").read_text() == "na\u00efve \u2026\u2026\n\u65e5\u200b\n"
