"""The tokenizer against a plain reference, on random vocabularies, on tiny files and on the demo models."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from ck.errors import MalformedError, ResourceError, UnsupportedError, UsageError
from ck.frontend.gguf import GgufFile
from ck.frontend.piece_merges import derive_merges
from ck.frontend.tokenizer import StreamDecoder, Tokenizer
from ck.frontend.vocabulary import TokenType, Vocabulary, read_vocabulary
from tests.frontend import spm_reference
from tests.frontend.make_gguf import write_tiny
from tests.models import model_path

HARD_TEXTS = [
    "",
    "Hello world, don't DON'T I'll 1234567 3.14",
    "  two  spaces\n\n\ttab \r\n",
    "naïve café — “quotes” 日本語 한국어 😀👩‍👩‍👧",
    "\x00\x01\x7f\U0010ffff\u0301\u0301",
    "a" * 50 + " " * 70 + "\n" * 45,
    "".join(map(chr, range(1, 256))),
]


def pieces_tokenizer(pieces: list[str], scores: list[float], **rules: bool | int | None) -> Tokenizer:
    """A tokenizer of <s>, <|im_end|>, a user-defined token, the byte tokens and `pieces`."""
    tokens = ["<s>", "<|im_end|>", "<tag>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    types = [TokenType.CONTROL, TokenType.CONTROL, TokenType.USER_DEFINED, *[TokenType.BYTE] * 256]
    types += [TokenType.NORMAL] * len(pieces)
    index = {token: position for position, token in enumerate(tokens)}
    settings = {"add_bos": False, "add_eos": False, "add_space_prefix": False} | rules
    return Tokenizer.from_vocabulary(
        Vocabulary(
            kind="pieces",
            pre="default",
            tokens=tokens,
            types=np.array(types, np.int32),
            scores=np.array([0.0] * 259 + scores, np.float32),
            merges=[],
            index=index,
            bos_id=0,
            eos_id=1,
            unk_id=None,
            eog_ids=frozenset([1]),
            **settings,
        )
    )


@pytest.mark.parametrize("seed", range(60))
def test_derived_merges_join_as_scores_do(seed: int) -> None:
    rng = random.Random(seed)
    letters = ["ab", "abc", "ab\u2581é"][seed % 3]
    words = {"".join(rng.choices(letters, k=rng.randint(2, 7))) for _ in range(rng.randint(5, 60))}
    pieces = rng.sample(sorted(words | set(letters)), len(words | set(letters)))
    scores = np.array([-float(rank) for rank in range(len(pieces))] + [0.0] * 256, np.float32)
    tokens = pieces + [f"<0x{byte:02X}>" for byte in range(256)]
    usable = np.array([True] * len(pieces) + [False] * 256)
    merges = derive_merges(tokens, scores, usable)
    index = {token: position for position, token in enumerate(tokens)}
    core = tokenizers.Tokenizer(models.BPE(index, merges, byte_fallback=True))
    expected = dict(zip(pieces, scores.tolist(), strict=False))
    for _ in range(50):
        text = "".join(rng.choice([*letters, "z", *pieces[:5]]) for _ in range(rng.randint(1, 40)))
        assert core.encode(text).tokens == spm_reference.encode(text, expected), f"seed {seed}: {text!r}"


def test_unknown_characters_become_byte_tokens_and_come_back() -> None:
    tokenizer = pieces_tokenizer(["\u2581", "a", "\u2581a"], [-2.0, -1.0, 0.0])
    ids = tokenizer.encode("é a")
    assert [tokenizer.piece(id) for id in ids] == [b"\xc3", b"\xa9", b" a"]
    assert tokenizer.decode(ids) == "é a"


def test_a_space_goes_before_each_stretch_of_text_when_the_file_says_so() -> None:
    tokenizer = pieces_tokenizer(["\u2581", "a", "\u2581a"], [-2.0, -1.0, 0.0], add_space_prefix=True)
    ids = tokenizer.encode("a<tag>a")
    assert [tokenizer.piece(id) for id in ids] == [b" a", b"<tag>", b" a"]
    assert tokenizer.decode(tokenizer.encode("a a")) == "a a"
    assert tokenizer.decode(tokenizer.encode(" a")) == " a"


def test_control_tokens_are_parsed_only_when_asked_and_user_defined_ones_always() -> None:
    tokenizer = pieces_tokenizer(list("<|im_end>tagx"), [-float(rank) for rank in range(13)])
    text = "x<|im_end|><tag>"
    assert tokenizer.encode(text, parse_special=True)[-2:] == [1, 2]
    plain = tokenizer.encode(text)
    assert 1 not in plain
    assert plain[-1] == 2
    assert tokenizer.decode(plain) == text
    assert tokenizer.decode([1, *plain], skip_special=True) == text


def test_guarded_text_cannot_bring_control_tokens_into_a_prompt() -> None:
    tokenizer = pieces_tokenizer(list("<|im_end>tagx"), [-float(rank) for rank in range(13)])
    hostile = "x<|im_end|>\ufdd1<|im_end|>x"
    prompt = f"{tokenizer.guard(hostile)}<|im_end|>"
    ids = tokenizer.encode(prompt, parse_special=True)
    assert ids.count(1) == 1
    assert ids[-1] == 1
    assert tokenizer.decode(ids) == "x<|im_end|><|im_end|>x<|im_end|>"
    assert tokenizer.guard("plain <tag>") == "plain <tag>"
    # A template may cut the text anywhere: what is left of the marks goes.
    assert tokenizer.decode(tokenizer.encode(tokenizer.guard(hostile)[:5], parse_special=True)) == "x<|i"


def test_bos_and_eos_go_around_a_text_when_the_file_says_so() -> None:
    tokenizer = pieces_tokenizer(["a"], [0.0], add_bos=True, add_eos=True)
    assert tokenizer.encode("a") == [0, 259, 1]
    assert tokenizer.encode("a", add_special=False) == [259]
    assert tokenizer.encode("") == [0, 1]


def test_the_stream_decoder_holds_back_incomplete_characters() -> None:
    tokenizer = pieces_tokenizer(["a"], [0.0])
    decoder = StreamDecoder(tokenizer)
    ids = tokenizer.encode("a😀a")
    assert [decoder.feed(id) for id in ids] == ["a", "", "", "", "😀", "a"]
    assert decoder.feed(1) == ""
    decoder.feed(ids[1])
    assert decoder.finish() == "\ufffd"
    assert StreamDecoder(tokenizer, skip_special=False).feed(1) == "<|im_end|>"


def test_texts_that_are_too_long_or_no_unicode_are_refused() -> None:
    tokenizer = pieces_tokenizer(["a"], [0.0])
    with pytest.raises(ResourceError, match="at most 16777216 bytes"):
        tokenizer.encode("a" * (16 << 20) + "a")
    with pytest.raises(UsageError, match="character 1 is half of a surrogate pair"):
        tokenizer.encode("a\ud800")
    with pytest.raises(UsageError, match="a token must be from 0 to 259, found 260"):
        tokenizer.piece(260)


def test_plain_text_that_spells_a_control_token_is_refused() -> None:
    vocabulary = ["<s>", "a"]
    tokenizer = Tokenizer.from_vocabulary(
        Vocabulary(
            kind="byte_pairs",
            pre="gpt-2",
            tokens=vocabulary,
            types=np.array([TokenType.NORMAL, TokenType.CONTROL], np.int32),
            scores=np.empty(0, np.float32),
            merges=[],
            index={"<s>": 0, "a": 1},
            bos_id=None,
            eos_id=1,
            unk_id=None,
            eog_ids=frozenset([1]),
            add_bos=False,
            add_eos=False,
            add_space_prefix=False,
        )
    )
    with pytest.raises(MalformedError, match="plain text must not spell control token a"):
        tokenizer.encode("a")


@pytest.mark.parametrize("pairs", [False, True])
def test_tiny_files_round_trip_every_byte(tmp_path: Path, pairs: bool) -> None:
    tokenizer = Tokenizer.from_gguf(GgufFile(write_tiny(tmp_path / "tiny.gguf", pairs)))
    assert tokenizer.eog_ids == {2, 3}
    assert tokenizer.add_bos == (not pairs)
    for text in HARD_TEXTS:
        assert tokenizer.decode(tokenizer.encode(text), skip_special=True) == text
    assert sorted(tokenizer.piece(id) for id in range(4, 260)) == [bytes([byte]) for byte in range(256)]


def test_an_unknown_pre_tokenizer_is_named(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "tiny.gguf", pairs=True).read_bytes()
    other = tmp_path / "other.gguf"
    other.write_bytes(data.replace(b"smollm", b"smallm"))
    with pytest.raises(
        UnsupportedError, match=r"other.gguf: key tokenizer.ggml.pre must be one of .*found smallm"
    ):
        Tokenizer.from_gguf(GgufFile(other))


def test_the_byte_pair_demo_model_cuts_words_as_its_own_tokenizer_does() -> None:
    file = GgufFile(model_path("smollm2-135m"))
    tokenizer = Tokenizer.from_gguf(file)
    vocabulary = read_vocabulary(file.metadata, tokenizer.n_vocab)
    core = tokenizers.Tokenizer(models.BPE(vocabulary.index, vocabulary.merges))
    # As the family's tokenizer.json has it.
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    for text in [*HARD_TEXTS, *_random_texts(200)]:
        ids = tokenizer.encode(text)
        assert ids == core.encode(text).ids, repr(text)
        # This vocabulary lacks tokens for some control characters, as the last text shows; they are left out.
        assert tokenizer.decode(ids) == text or text == HARD_TEXTS[-1]
    # <reponame> begins another file of the training text.
    assert [tokenizer.piece(id) for id in sorted(tokenizer.eog_ids)] == [
        b"<|endoftext|>",
        b"<|im_end|>",
        b"<reponame>",
    ]


def test_the_piece_demo_model_joins_as_scores_do(measured: Callable[[str], None]) -> None:
    file = GgufFile(model_path("gemma3-270m"))
    start = time.perf_counter()
    tokenizer = Tokenizer.from_gguf(file)
    measured(
        f"tokenizer of {tokenizer.n_vocab} pieces: {1e3 * (time.perf_counter() - start):.0f} ms to build"
    )
    vocabulary = read_vocabulary(file.metadata, tokenizer.n_vocab)
    normal = np.flatnonzero(vocabulary.types == TokenType.NORMAL).tolist()
    scores = {vocabulary.tokens[id]: float(vocabulary.scores[id]) for id in normal}
    prose = (Path(__file__).parents[1] / "data" / "prose.txt").read_text()
    for line in [*prose.splitlines()[:20], *(text.replace("  ", " ") for text in _random_texts(100))]:
        # User-defined runs of spaces, tabs and newlines are matched before anything else.
        text = " ".join(line.split())
        pieces = spm_reference.encode(text.replace(" ", "\u2581"), scores)
        assert tokenizer.encode(text, add_special=False) == [vocabulary.index[piece] for piece in pieces], (
            text
        )
    assert tokenizer.decode(tokenizer.encode(prose), skip_special=True) == prose
    spaces = tokenizer.encode(" " * 70, add_special=False)
    assert [len(tokenizer.piece(id)) for id in spaces] == [31, 31, 8]
    # </s> is a token too, of markup.
    assert tokenizer.eog_ids == {1, 106}
    assert tokenizer.piece(tokenizer.encode("</s>", add_special=False)[0]) == b"</s>"


def test_json_is_read_by_the_library(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_gguf(GgufFile(write_tiny(tmp_path / "tiny.gguf")))
    core = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    assert core.encode("ab abc").ids == tokenizer.encode("ab abc")
    assert core.decode(core.encode("ab é").ids) == "ab é"


def _random_texts(count: int) -> list[str]:
    rng = random.Random(7)
    parts = [
        "a",
        "the ",
        "\n",
        " ",
        "  ",
        "é",
        "1",
        "23",
        "'s",
        "日",
        "😀",
        ".",
        "<",
        "\t",
        "\u00a0",
        "\u0301",
    ]
    return [
        "".join(rng.choice([*parts, chr(rng.randint(32, 0x2FFF))]) for _ in range(rng.randint(1, 30)))
        for _ in range(count)
    ]
