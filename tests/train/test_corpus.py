"""Reading documents, what is refused with file and line, and cleaning."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ck.errors import CkError, MalformedError, UnsupportedError, UsageError
from ck.train.cleaning import SPELLINGS, clean_files, clean_text, clean_to_ascii
from ck.train.corpus import Corpus, Document, check_ascii, find_files, read_documents

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file by its name in an empty working directory; its path is the bare name."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, data: str | bytes) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return make


def rows(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def test_a_file_is_one_document_or_one_a_line(write: Write) -> None:
    path = write("a.txt", "one\n\n  \ntwo\u2028three\x0cfour\nlast")
    assert list(read_documents([path])) == [Document(path.read_text(), path, 1)]
    by_line = list(read_documents([path], "line"))
    assert by_line == [
        Document("one", path, 1),
        Document("two\u2028three\x0cfour", path, 4),
        Document("last", path, 5),
    ]


def test_a_row_is_one_document_in_the_field_that_is_named(write: Write) -> None:
    path = write(
        "a.jsonl", '{"text": "a\\nb", "id": 1}\n\n{"text": "c", "messages": []}\n{"id": 2, "text": "d"}'
    )
    assert [(d.text, d.line) for d in read_documents([path])] == [("a\nb", 1), ("c", 3), ("d", 4)]
    other = write("b.jsonl", '{"body": "x"}')
    assert [d.text for d in read_documents([other], field="body")] == ["x"]
    # All of a row's text stands in one line of the file.
    assert next(iter(read_documents([path]))).line_of(2) == 1


def test_a_directory_is_read_by_name_without_what_is_no_text(write: Write) -> None:
    for name in (
        "d/b.md",
        "d/a/z.py",
        "d/a.txt",
        "d/B.txt",
        "d/.git/x.txt",
        "d/.x.txt",
        "d/c.png",
        "d/e.JSONL",
    ):
        write(name, rows("r") if name.endswith("JSONL") else name)
    write("d/a/empty.py", "")
    found = [str(path) for path in find_files([Path("d")])]
    assert found == ["d/B.txt", "d/a/empty.py", "d/a/z.py", "d/a.txt", "d/b.md", "d/e.JSONL"]
    texts = [document.text for document in read_documents([Path("d")])]
    assert texts == ["d/B.txt", "d/a/z.py", "d/a.txt", "d/b.md", "r"]


def test_a_run_among_the_data_is_left_out_aloud(write: Write) -> None:
    for name in ("d/a.txt", "d/runs/x/run.json", "d/runs/x/ir/00-graph.mlir", "d/runs/y/b.txt"):
        write(name, name)
    said: list[str] = []
    assert [str(path) for path in find_files([Path("d")], said.append)] == ["d/a.txt", "d/runs/y/b.txt"]
    assert said == ["d/runs/x: left out of the data, it holds run.json and so is a run"]
    assert [document.text for document in read_documents([Path("d")])] == ["d/a.txt", "d/runs/y/b.txt"]
    # What is named is read.
    assert len(find_files([Path("d/runs/x")])) == 2


def test_a_file_is_read_once_and_any_name_will_do_when_it_is_given(write: Write) -> None:
    write("d/a.txt", "a")
    odd = write("odd.bin", "odd")
    os.symlink("d", "link")
    corpus = Corpus((odd, Path("d"), Path("d/a.txt"), Path("link/a.txt")))
    assert [document.text for document in corpus] == ["odd", "a"]
    # It can be read again.
    assert [document.text for document in corpus] == ["odd", "a"]


BAD: list[tuple[str, str | bytes, type[CkError], str]] = [
    ("a.txt", "", MalformedError, "a.txt: must hold text, found none"),
    ("a.jsonl", "\n", MalformedError, "a.jsonl: must hold text, found none"),
    (
        "a.txt",
        b"ok\nno\0t\n",
        MalformedError,
        "a.txt:2: must be text, found a NUL byte at byte 2 of the line; run",
    ),
    (
        "a.txt",
        b"ok\nn\xc3\xa9 \xff\n",
        MalformedError,
        r"a.txt:2: must be UTF-8, byte 7 of the file \(0xff\)",
    ),
    ("a.txt", b"\xff\xfea\0", MalformedError, "a.txt:1: must be text, found a NUL byte"),
    (
        "a.txt",
        b"\xef\xbb\xbfa\n",
        MalformedError,
        r"a.txt:1: must start .* byte order mark \(BOM\); run: ck tok",
    ),
    (
        "a.txt",
        b"a\nb\r\nc\r\n",
        MalformedError,
        "a.txt:2: lines must end in LF, found CR LF; run: ck tokenizer clean",
    ),
    ("a.jsonl", b'{"text": "a"}\r\n', MalformedError, "a.jsonl:1: lines must end in LF"),
    (
        "a.jsonl",
        rows("a") + '{"text": }\n',
        MalformedError,
        "a.jsonl:2: must be a JSON object, found invalid JSON: exp",
    ),
    ("a.jsonl", "[" * 9999 + "\n", MalformedError, "a.jsonl:1: must be .* invalid JSON"),
    ("a.jsonl", '{"text": ' + "1" * 5000 + "}", MalformedError, "a.jsonl:1: must be .* too long a number"),
    ("a.jsonl", rows("a") + "\n[1]", MalformedError, "a.jsonl:3: must be a JSON object, found an array"),
    (
        "a.jsonl",
        '{"a": 1, "b": 2}',
        MalformedError,
        "a.jsonl:1: must have a field text, found a, b; name it with --field, .* --set data.field=NAME$",
    ),
    ("a.jsonl", "{}", MalformedError, "a.jsonl:1: must have a field text, found none"),
    (
        "a.jsonl",
        rows("a") + '{"text": 3}',
        MalformedError,
        "a.jsonl:2: field text must be a string, found a number",
    ),
    ("a.jsonl", '{"text": null}', MalformedError, "a.jsonl:1: field text must be a string, found null"),
    ("a.jsonl", rows("a", ""), MalformedError, "a.jsonl:2: field text must hold text, found an empty string"),
    ("a.jsonl", rows("a\0"), MalformedError, "a.jsonl:1: field text must be text, found NUL at character 1"),
    ("a.jsonl", rows("a\r\nb"), MalformedError, "a.jsonl:1: field text must have lines that end in LF"),
    ("a.jsonl", rows("\ufeffa"), MalformedError, "a.jsonl:1: field text must start .*BOM"),
    (
        "a.jsonl",
        '{"text": "a\\ud800"}',
        MalformedError,
        "a.jsonl:1: .*character 1 is half of a surrogate pair",
    ),
    (
        "a.jsonl",
        '{"messages": []}',
        UnsupportedError,
        "a.jsonl:1: must have a field text, found chat messages",
    ),
]


@pytest.mark.parametrize(("name", "data", "kind", "words"), BAD)
def test_bad_text_names_file_and_line(
    name: str, data: str | bytes, kind: type[CkError], words: str, write: Write
) -> None:
    with pytest.raises(kind, match=f"^{words}") as caught:
        list(read_documents([write("good.txt", "good"), write(name, data)]))
    assert "\n" not in str(caught.value)


def test_bad_paths_are_named(write: Write) -> None:
    with pytest.raises(UsageError, match=r"^data: at least one file or directory is required"):
        list(read_documents([]))
    with pytest.raises(UsageError, match=r"^nix: must be a file or a directory, found nothing there"):
        list(read_documents([Path("nix")]))
    with pytest.raises(UsageError, match=r"^/dev/null: must be a file or a directory, found something else"):
        list(read_documents([Path("/dev/null")]))
    write("d/a.png", "a")
    with pytest.raises(MalformedError, match=r"^d: must hold text files, \*.txt.*, found none"):
        list(read_documents([Path("d")]))
    write("e/a.txt", "")
    with pytest.raises(MalformedError, match=r"^e: must hold text, found only empty files"):
        list(read_documents([Path("e")]))


def test_text_that_is_not_ascii_names_line_and_character(write: Write) -> None:
    path = write("a.txt", "tab\tCR\r~ \n\nna\u00efve\n")
    with pytest.raises(
        MalformedError, match=r"^a.txt:3: must be printable ASCII, .* found U\+00EF \(ï\); run"
    ):
        list(read_documents([path], ascii_only=True))
    with pytest.raises(MalformedError, match=r"^a.txt:3: .*U\+00EF"):
        list(read_documents([path], "line", ascii_only=True))
    row = write("a.jsonl", rows("x", "a\nb\x7f"))
    with pytest.raises(MalformedError, match=r"^a.jsonl:2: .* found U\+007F; run"):
        list(Corpus((row,), ascii_only=True))
    check_ascii(Document("".join(map(chr, [9, 10, 13, *range(32, 127)])), path, 1))


def test_cleaning_spells_what_has_a_spelling() -> None:
    assert (
        clean_to_ascii("“q” \u2018q\u2019 — … → ─│┌ naïve Å ½ ﬁ ①")
        == "\"q\" 'q' - ... -> -|+ naive A 1/2 fi 1"
    )
    assert clean_to_ascii("a\u00a0b\u200bc\u00add\x0ce\u2028f日\ufffd😀") == "a bcd\ne\nf???"
    assert clean_to_ascii("\ufeffa\0\r\r\nb\rc\r\u2029") == "a\nb\rc\n"
    assert clean_text("\ufeffé\0\r\nb") == "é\nb"
    assert clean_to_ascii("".join(SPELLINGS.values())) == "".join(SPELLINGS.values())


@given(st.text())
def test_what_was_cleaned_is_clean(text: str) -> None:
    cleaned = clean_to_ascii(text)
    check_ascii(Document(cleaned, Path("x"), 1))
    assert "\r\n" not in cleaned
    assert clean_to_ascii(cleaned) == cleaned


def test_cleaned_files_can_be_trained_on(write: Write) -> None:
    write("d/sub/a.txt", "\ufeffone\r\ntwo…\0\n".encode())
    write("d/r.jsonl", '\ufeff{"text": "\\ufeffé…\\r\\n", "id": "é"}\r\n\n{"text": "\\u0000"}\n{"text": "z"}')
    alone = write("b.txt", "fine\n")
    cleaned = clean_files([Path("d"), alone], Path("out"))
    assert [str(file) for file in cleaned.files] == ["out/d/r.jsonl", "out/d/sub/a.txt", "out/b.txt"]
    documents = list(read_documents([Path("out")], ascii_only=True))
    assert [document.text for document in documents] == ["fine\n", "e...\n", "z", "one\ntwo...\n"]
    assert (cleaned.n_line_ends, cleaned.n_nul, cleaned.n_byte_order_marks, cleaned.n_empty_rows) == (
        2,
        2,
        2,
        1,
    )
    assert dict(cleaned.characters) == {"é": 1, "…": 2}
    assert Path("out/d/r.jsonl").read_bytes().isascii()
    kept = clean_files([Path("d")], Path("kept"), to_ascii=False)
    assert Path("kept/d/sub/a.txt").read_text() == "one\ntwo…\n"
    assert not kept.characters


def test_cleaning_never_writes_over_what_it_reads(write: Write) -> None:
    path = write("d/a.txt", "é")
    for out in ("d", "d/x"):
        with pytest.raises(UsageError, match=f"^{out}: must lie outside of d, which is cleaned"):
            clean_files([Path("d")], Path(out))
    for out, source in ((".", Path("d")), ("d", path)):
        with pytest.raises(UsageError, match=f"^{out}: must not be where d/a.txt lies"):
            clean_files([source], Path(out))
    write("e/a.txt", "é")
    with pytest.raises(
        UsageError, match=r"^out/a.txt: must be the copy of one file, is that of d/a.txt and e/a.txt"
    ):
        clean_files([path, Path("e/a.txt")], Path("out"))
    assert path.read_text() == "é"
    assert not Path("out").exists()


def test_a_failed_cleaning_leaves_no_part_of_a_file(write: Write) -> None:
    path = write("a.jsonl", rows("x") + "no json\n")
    with pytest.raises(MalformedError, match=r"^a.jsonl:2: "):
        clean_files([path], Path("out"))
    assert list(Path("out").iterdir()) == []
