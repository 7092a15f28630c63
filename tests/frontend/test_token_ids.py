"""Token ids are llama.cpp's, recorded once: of both demo models, and under every named pre-tokenizer."""

from dataclasses import replace
from functools import cache

import pytest
from tokenizers import pre_tokenizers

from ck.frontend.architectures.vocabularies import PRETOKENIZERS, PreTokenizer
from ck.frontend.model import GgufModel
from ck.frontend.tokenizer import SPACE, Tokenizer
from ck.frontend.vocabulary import TokenType, Vocabulary, read_vocabulary
from tests.frontend.test_tokenizer import pieces_tokenizer
from tests.frontend.token_records import MARKUP, PRE_MODEL, compared, digest, read_record, texts, texts_sha256
from tests.models import MODELS, model_path


@cache
def vocabulary(name: str) -> Vocabulary:
    file = GgufModel(model_path(name))
    return read_vocabulary(file.metadata, file.hyperparameters().n_vocab)


def test_the_record_is_of_the_texts() -> None:
    record = read_record()
    assert record["source"] == "llama.cpp of llama-cpp-python 0.3.36"
    assert record["texts_sha256"] == texts_sha256(), "record again: make token-records"
    assert set(record["models"]) == set(MODELS)
    assert len(set(texts())) == len(texts()) >= 300


@pytest.mark.parametrize("name", MODELS)
def test_ids_are_llama_cpps(name: str) -> None:
    found = vocabulary(name)
    tokenizer = Tokenizer.from_vocabulary(found, name)
    record = read_record()["models"][name]
    is_word = MARKUP in found.index and found.types[found.index[MARKUP]] != TokenType.CONTROL
    n_by_design = 0
    for n, (text, plain) in enumerate(zip(texts(), record["plain"], strict=True)):
        special = record["special"].get(str(n), plain)
        assert tokenizer.encode(text, False, parse_special=True) == special, ascii(text)
        ids = tokenizer.encode(text, add_special=False)
        if is_word and MARKUP in text:
            # The file says that it is a word of texts; llama.cpp goes by what it looks like.
            n_by_design += 1
            assert found.index[MARKUP] in ids
            assert found.index[MARKUP] not in plain
            continue
        assert ids == plain, ascii(text)
    assert n_by_design == (9 if is_word else 0)


def _cutters() -> dict[PreTokenizer, list[str]]:
    found: dict[PreTokenizer, list[str]] = {}
    for name, cutter in PRETOKENIZERS.items():
        found.setdefault(cutter, []).append(name)
    return found


@pytest.mark.parametrize("names", _cutters().values(), ids=lambda names: names[0])
def test_words_are_cut_as_llama_cpp_cuts_them(names: list[str]) -> None:
    """Names that cut alike have the same ids, and are tried once."""
    expected = read_record()["pre"]
    assert len({expected[name] for name in names}) == 1
    tokenizer = Tokenizer.from_vocabulary(replace(vocabulary(PRE_MODEL), pre=names[0]))
    ids = [tokenizer.encode(texts()[n], add_special=False) for n in compared(names[0])]
    assert digest(ids) == expected[names[0]], "make tokenizers shows the texts"


def test_a_literal_space_mark_gets_a_space_before_it_as_in_llama_cpp() -> None:
    """U+2581 is how a space is written. A text may have it too: llama.cpp and ck put the space before such a
    text as before any other. The tokenizers library's own Metaspace, in newer tokenizer.json, leaves it out
    there, so that the text that begins with U+2581 and that without it get the same ids.
    """
    tokenizer = pieces_tokenizer([SPACE, "a", SPACE + "a"], [-2.0, -1.0, 0.0], add_space_prefix=True)
    words = {
        text: [tokenizer.piece(id) for id in tokenizer.encode(text)] for text in ("a", SPACE + "a", " a")
    }
    assert words == {"a": [b" a"], SPACE + "a": [b" ", b" a"], " a": [b" ", b" a"]}
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    assert [metaspace.pre_tokenize_str(text)[0][0] for text in ("a", SPACE + "a")] == [SPACE + "a"] * 2
    # It comes back as a space, here and there.
    assert tokenizer.decode(tokenizer.encode(SPACE + "a")) == " a"
