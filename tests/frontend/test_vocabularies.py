"""What a family's tokenizer is known by: its pattern, whether texts start with BOS, what ends a reply."""

from pathlib import Path

import pytest
from tokenizers import Regex, pre_tokenizers

from ck.frontend.architectures.vocabularies import PRETOKENIZERS
from ck.frontend.model import GgufModel
from ck.frontend.vocabulary import reply_ends
from tests.frontend.make_gguf import write_tiny
from tests.frontend.raw_gguf import ARRAY, STRING, U32, parse, text, texts, u32

PROSE = (Path(__file__).parents[1] / "data" / "prose.txt").read_text()
TRICKY = "it's IT'S we'll  two\tspaces \n\n x2 1234 a1b2 …?!\r\n\r\n 中文 naïve e\u0301 🙂🙂  _f( \u00a0x  "


@pytest.mark.oracle
@pytest.mark.parametrize("sample", [PROSE, TRICKY])
def test_qwens_words_are_transformers(sample: str) -> None:
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    (pattern,) = PRETOKENIZERS["qwen2"].patterns
    ours, theirs = (pre_tokenizers.Split(Regex(p), "isolated") for p in (pattern, PRETOKENIZE_REGEX))
    assert ours.pre_tokenize_str(sample) == theirs.pre_tokenize_str(sample)


def test_qwens_texts_have_no_bos_and_two_ends(tmp_path: Path) -> None:
    raw = parse(write_tiny(tmp_path / "tiny.gguf", pairs=True).read_bytes())
    raw.set("tokenizer.ggml.pre", STRING, text("qwen2"))
    raw.set("tokenizer.ggml.eos_token_id", U32, u32(2))
    path = tmp_path / "qwen.gguf"
    path.write_bytes(raw.pack())
    tokenizer = GgufModel(path).tokenizer()
    assert not tokenizer.add_bos
    assert tokenizer.encode("") == []
    ids = tokenizer.encode("ab")
    assert tokenizer.bos_id not in ids
    assert tokenizer.decode(ids) == "ab"
    # The header names one; the text of the other is known.
    assert tokenizer.eos_id == 2
    assert tokenizer.eog_ids == {2, 3}


@pytest.mark.parametrize("name", ["eot", "eom", "fim_pad", "fim_rep", "fim_sep"])
def test_tokens_that_the_header_names_end_a_reply(name: str, tmp_path: Path) -> None:
    raw = parse(write_tiny(tmp_path / "tiny.gguf", pairs=True).read_bytes())
    raw.set(f"tokenizer.ggml.{name}_token_id", U32, u32(70))
    path = tmp_path / "named.gguf"
    path.write_bytes(raw.pack())
    assert GgufModel(path).tokenizer().eog_ids == {2, 3, 70}


def test_pieces_with_merges_of_their_own_join_as_these_do(tmp_path: Path) -> None:
    raw = parse(write_tiny(tmp_path / "tiny.gguf").read_bytes())
    raw.set("tokenizer.ggml.model", STRING, text("gemma4"))
    raw.set("tokenizer.ggml.merges", ARRAY, texts(["a b"]))
    for key in ("scores", "bos_token_id", "add_bos_token", "add_space_prefix"):
        raw.remove(f"tokenizer.ggml.{key}")
    path = tmp_path / "merged.gguf"
    path.write_bytes(raw.pack())
    tokenizer = GgufModel(path).tokenizer()
    assert (tokenizer.kind, tokenizer.bos_id, tokenizer.add_bos) == ("pieces", None, False)
    # By the scores " ab" and "abc" are one piece each.
    pieces = [tokenizer.piece(id) for id in tokenizer.encode(" ab\nabc é")]
    assert pieces == [b" ", b"ab", b"\n", b"ab", b"c", b" ", b"\xc3", b"\xa9"]
    assert tokenizer.decode(tokenizer.encode(" ab\nabc é")) == " ab\nabc é"
    # A file may have none: every character is a piece of its own.
    raw.set("tokenizer.ggml.merges", ARRAY, texts([]))
    path.write_bytes(raw.pack())
    assert len(GgufModel(path).tokenizer().encode("abc")) == 3


ENDS = [
    (["a", "<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|file_sep|>"], [1, 2, 3, 4]),
    (["<|end|>", "<|endoftext|>"], [0, 1]),
    (["<|end|>", "<|return|>", "<|call|>"], [1, 2]),
    (["<|end|>", "<|calls|>", "<|flush|>"], [1, 2]),
    (["</s>", "<|eot_id|>", "<|eom_id|>"], [0, 1, 2]),
    (["</s>", "<|tool_response>", "<turn|>"], [1, 2]),
]


@pytest.mark.parametrize(("names", "ends"), ENDS)
def test_tokens_end_a_reply_by_their_names(names: list[str], ends: list[int]) -> None:
    index = {name: token for token, name in enumerate(names)}
    assert reply_ends([], index, lambda token: False) == set(ends)
    # What is a word of the vocabulary is markup, unless the file names it.
    as_words = reply_ends([], index, lambda token: True)
    assert as_words == {token for token in ends if names[token] != "</s>"}
    if "<|end|>" not in names:
        assert reply_ends([0], index, lambda token: True) == as_words | {0}
