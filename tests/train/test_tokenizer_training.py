"""Tokenizers that ck trains: their alphabet, reserved tokens, determinism, and other readers of the file."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from ck.errors import GateError, MalformedError, UnsupportedError, UsageError
from ck.frontend.architectures.vocabularies import PRETOKENIZERS
from ck.frontend.gguf import GgufFile
from ck.frontend.tokenizer import Tokenizer
from ck.train import tokenizer_training
from ck.train.corpus import Document, read_documents
from ck.train.round_trip import round_trip
from ck.train.tokenizer_training import (
    ASCII,
    PRE_TOKENIZER,
    TrainingTokenizer,
    gguf_vocabulary,
    load_tokenizer,
    tokenizer_sha256,
    train_tokenizer,
)

ROOT = Path(__file__).parents[2]
HARD = (
    "naïve café — 日本語 😀👩‍👩‍👧 \x00\x01\x7f \u2028\u0301\n\n\t  don't I'll  1234 \r\n"
    " <tag></tag> <|endoftext|>x"
)
SPECIAL = ["<tag>", "</tag>"]
Kind = tokenizer_training.Kind


def documents(*texts: str) -> list[Document]:
    return [Document(text, Path("x.txt"), 1) for text in texts]


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    """This repository's IR: ASCII text of a few tens of kB."""
    found = list(read_documents([ROOT / "ck" / "ir"]))
    return [Document("".join(filter(str.isascii, d.text)).replace("\x0c", ""), d.path, d.line) for d in found]


@pytest.fixture(scope="module")
def trained(corpus: list[Document]) -> Callable[[Kind], TrainingTokenizer]:
    made = {kind: train_tokenizer(corpus, kind, 500, SPECIAL) for kind in ("bpe", "ascii_bpe")}
    return lambda kind: made[kind]


KINDS: list[Kind] = ["bpe", "ascii_bpe"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_vocabulary_is_reserved_tokens_alphabet_and_merges(
    kind: Kind, trained: Callable[[Kind], TrainingTokenizer]
) -> None:
    tokenizer = trained(kind)
    assert tokenizer.kind == kind
    assert tokenizer.n_vocab == 500
    assert tokenizer.reserved == {"<|endoftext|>": 0, "<tag>": 1, "</tag>": 2}
    cutter = json.loads(tokenizer.json_text)["pre_tokenizer"]
    assert (cutter["type"], cutter["add_prefix_space"], cutter["use_regex"]) == ("ByteLevel", False, True)
    n_letters = {"bpe": 256, "ascii_bpe": 98}[kind]
    assert [len(text) == 1 for text in tokenizer.tokens[3:]] == [n < n_letters for n in range(497)]
    letters = ASCII if kind == "ascii_bpe" else "".join(map(chr, range(128)))
    assert tokenizer.decode(tokenizer.encode(letters)) == letters


@pytest.mark.parametrize("kind", KINDS)
def test_a_reserved_token_is_one_id_wherever_it_stands(
    kind: Kind, trained: Callable[[Kind], TrainingTokenizer]
) -> None:
    tokenizer = trained(kind)
    text = "return<tag>return</tag><|endoftext|> <tag"
    ids = tokenizer.encode(text)
    assert [id for id in ids.tolist() if id < 3] == [1, 2, 0]
    assert tokenizer.decode(ids) == text
    # <|endoftext|> stands for no text.
    assert tokenizer.token_bytes[ids].sum() == len(text) - len("<|endoftext|>")


def test_reserved_tokens_leave_no_merges() -> None:
    text = documents("ab<tag>" * 50)
    assert train_tokenizer(text, "bpe", 259, ["<tag>"]).tokens[258:] == ["ab"]
    with pytest.raises(UsageError, match="it gives 259 at most"):
        train_tokenizer(text, "bpe", 300, ["<tag>"])
    # No advice that cannot be taken.
    with pytest.raises(UsageError, match=r"259 at most; add text, 260 tokens are the least there may be$"):
        train_tokenizer(text, "bpe", 300, ["<tag>"], smallest=260)
    with pytest.raises(UsageError, match="ask for a vocabulary size of 259 or less"):
        train_tokenizer(text, "bpe", 300, ["<tag>"], smallest=259)


@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\t\r'stdm09aé日\u2028"))))
def test_words_are_cut_as_llama_cpp_does(text: str) -> None:
    (pattern,) = PRETOKENIZERS[PRE_TOKENIZER].patterns
    theirs = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ours = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # Where a word starts and ends is theirs to count in characters or bytes; the words are the same.
    assert [word for word, _ in ours.pre_tokenize_str(text)] == [
        word for word, _ in theirs.pre_tokenize_str(text)
    ]


def test_every_text_round_trips_and_long_ones_are_cut_where_words_end(
    trained: Callable[[Kind], TrainingTokenizer], corpus: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = trained("bpe")
    texts = documents(HARD, "", *(document.text for document in corpus))
    report = round_trip(tokenizer, texts)
    assert (report.n_documents, report.n_mismatches, report.first) == (len(texts), 0, None)
    assert report.n_bytes == sum(len(document.text.encode()) for document in texts)
    report.require()
    whole = [tokenizer.encode(document.text).tolist() for document in texts]
    for n_chars in (1, 7, 100):
        monkeypatch.setattr(tokenizer_training, "_PART_CHARS", n_chars)
        assert [tokenizer.encode(document.text).tolist() for document in texts] == whole


def test_text_that_comes_back_different_is_named() -> None:
    """A vocabulary without some of the bytes, as one trained without the base alphabet has it."""
    raw = json.loads(train_tokenizer(documents("abc"), "bpe", 257).json_text)
    raw["model"]["vocab"] = {"<|endoftext|>": 0, "a": 1, "b": 2, "Ġ": 3, "Ċ": 4, "Ã": 5, "©": 6}
    tokenizer = TrainingTokenizer(json.dumps(raw))
    assert tokenizer.kind is None
    report = round_trip(tokenizer, documents("a b\n", "ab\néa c\n", "c"))
    assert report.n_mismatches == 2
    assert report.first is not None
    assert (report.first.line, report.first.offset) == (2, 7)
    with pytest.raises(
        GateError, match=r"^x.txt:2: byte 7 of the document: must be c\\n .*found \\n \(2 of 3 doc"
    ):
        report.require()


def test_the_same_text_gives_the_same_file(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ck.train.corpus import Corpus;"
        "from ck.train.tokenizer_training import train_tokenizer;"
        "train_tokenizer(Corpus((Path('ck/ir'),)), 'bpe', 900, ['<a>']).save(Path(sys.argv[1]))"
    )
    files = [tmp_path / f"{n}.json" for n in range(3)]
    for threads, file in zip(("1", "2", "2"), files, strict=True):
        env = {**os.environ, "RAYON_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", program, str(file)], cwd=ROOT, env=env, check=True)
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()
    loaded = load_tokenizer(tmp_path / "0.json")
    assert loaded.sha256 == tokenizer_sha256(files[0])
    loaded.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path).json_text == loaded.json_text


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_the_same_ids(
    kind: Kind, trained: Callable[[Kind], TrainingTokenizer], corpus: list[Document], tmp_path: Path
) -> None:
    from transformers import PreTrainedTokenizerFast

    trained(kind).save(tmp_path / "tokenizer.json")
    theirs: Any = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    texts = [document.text for document in corpus] + ["a<tag> b</tag>\n<|endoftext|>"]
    for text in texts + ([HARD] if kind == "bpe" else []):
        ids = trained(kind).encode(text).tolist()
        assert theirs.encode(text, add_special_tokens=False) == ids
        # With special tokens: the document's start, as in training.
        assert theirs.encode(text) == [0, *ids]
    assert theirs.decode(theirs.encode("a<tag>b")[1:]) == "a<tag>b"


def write_vocabulary(path: Path, fields: dict[str, Any]) -> Path:
    """A GGUF file with `fields` and an embedding of as many rows as there are tokens, and nothing else."""
    writer = GGUFWriter(path, "none")
    for key, value in fields.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)
    n_vocab = len(fields["tokenizer.ggml.tokens"])
    writer.add_tensor("token_embd.weight", np.zeros((n_vocab, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_gguf_file_with_its_keys_gives_the_same_ids(
    kind: Kind, trained: Callable[[Kind], TrainingTokenizer], corpus: list[Document], tmp_path: Path
) -> None:
    ours = trained(kind)
    theirs = Tokenizer.from_gguf(GgufFile(write_vocabulary(tmp_path / "t.gguf", gguf_vocabulary(ours))))
    assert (theirs.bos_id, theirs.eos_id, theirs.eog_ids, theirs.add_bos) == (0, 0, {0}, True)
    texts = [document.text for document in corpus] + (["<tag>é</tag>", HARD] if kind == "bpe" else [])
    for text in texts:
        ids = ours.encode(text).tolist()
        assert theirs.encode(text, add_special=False, parse_special=True) == ids
        assert theirs.encode(text, parse_special=True) == [0, *ids]
        assert theirs.decode(ids) == text
    # <|endoftext|> is text to a user's prompt; a reserved token of the user's own is always one token.
    assert theirs.encode("<tag>", add_special=False) == [1]
    assert 0 not in theirs.encode("<|endoftext|>", add_special=False)


@pytest.mark.parametrize(
    ("kind", "size", "special", "words"),
    [
        ("bpe", 257, ["<a>"], "must be at least 258 for bpe, 256 for the alphabet and 2 reserved, found 257"),
        (
            "ascii_bpe",
            98,
            [],
            "must be at least 99 for ascii_bpe, 98 for the alphabet and 1 reserved, found 98",
        ),
        (
            "bpe",
            300,
            [],
            "the text must give 300 tokens, it gives 258 at most; ask for a vocabulary size of 258",
        ),
        (
            "bpe",
            300,
            ["a"],
            "a reserved token must be 2 to 64 printable ASCII characters without spaces, found a",
        ),
        ("bpe", 300, ["a b"], "reserved token must be .*, found a b"),
        ("bpe", 300, ["é!"], "reserved token must be .*, found é!"),
        ("bpe", 300, [""], "reserved token must be .*, found none"),
        ("bpe", 300, ["<a>", "<a><b>"], "no reserved token may be part of another, <a> is part of <a><b>"),
        ("bpe", 300, ["text"], "no reserved token may be part of another, text is part of <|endoftext|>"),
    ],
)
def test_sizes_and_reserved_tokens_that_cannot_be(
    kind: Kind, size: int, special: Sequence[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words.replace("|", r"\|")):
        train_tokenizer(documents("ab ab"), kind, size, special)


def test_text_outside_the_alphabet_is_refused_before_it_is_learnt_from() -> None:
    with pytest.raises(MalformedError, match=r"^x.txt:2: must be printable ASCII"):
        train_tokenizer(documents("ab\né"), "ascii_bpe", 99)


BREAKS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"normalizer": {"type": "Lowercase"}}, UnsupportedError, "normalizer must be null"),
    ({"pre_tokenizer": None}, UnsupportedError, "pre_tokenizer must be ByteLevel, found none"),
    (
        {"pre_tokenizer": {"type": "Whitespace"}},
        UnsupportedError,
        "type of pre_tokenizer must be .*, found .Whitesp",
    ),
    (
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}},
        UnsupportedError,
        "add_prefix_space of pre_tokenizer must be false, found true",
    ),
    ({"model": {"type": "Unigram"}}, UnsupportedError, "type of model must be .BPE., found .Unigram."),
    ({"decoder": None}, UnsupportedError, "decoder must be ByteLevel, found none"),
    ({"added_tokens": []}, UnsupportedError, r"must have <\|endoftext\|> among its added tokens"),
    ({"added_tokens": [3]}, MalformedError, "added_tokens must be objects"),
    ({"model": {"type": "BPE", "vocab": 3, "merges": []}}, MalformedError, "must build a tokenizer: "),
    (
        {"model": {"type": "BPE", "vocab": {"<|endoftext|>": 0, "a": 5}, "merges": []}},
        MalformedError,
        "2 tokens must",
    ),
]


@pytest.mark.parametrize(("changes", "kind", "words"), BREAKS)
def test_a_file_that_cannot_be_trained_with_says_why(
    changes: dict[str, Any], kind: type[Exception], words: str, tmp_path: Path
) -> None:
    raw = json.loads(train_tokenizer(documents("ab"), "bpe", 257).json_text)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**raw, **changes}))
    with pytest.raises(kind, match=f"tokenizer.json: {words}"):
        load_tokenizer(path)


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tokenizer.json: must be a tokenizer.json, there is no such file"):
        load_tokenizer(tmp_path)
    for data, words in (
        (b"{", "must be JSON"),
        (b"\xff", "must be UTF-8, byte 0"),
        (b"[]", "model must be BPE"),
    ):
        (tmp_path / "tokenizer.json").write_bytes(data)
        with pytest.raises((MalformedError, UnsupportedError), match=words):
            load_tokenizer(tmp_path)
