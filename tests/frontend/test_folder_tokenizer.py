"""Tokenizers of folders: the ids and texts of transformers, and what ck adds to them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from ck.errors import MalformedError, UnsupportedError, UsageError
from ck.frontend.huggingface.folder import FolderModel
from ck.frontend.tokenizer import StreamDecoder, Tokenizer
from tests.frontend.folders import PROSE, TEMPLATE, TOKENIZERS, add_tokenizer, byte_level, write_folder
from tests.frontend.random_models import small

N_VOCAB = 800
TEXTS = [
    "",
    " ",
    "Hello world, don't DON'T 1234567 3.14",
    "  two  spaces\n\n\ttab \r\n",
    "naïve cafe\u0301 — “quotes” 日本語 한국어 😀👩‍👩‍👧",
    "\x00\x01\x7f\U0010ffff\u0301\u0301",
    "a" * 50 + " " * 70 + "\n" * 45,
    "<think> in </think> and▁ that",
]
WITH_CONTROL = "<|im_start|>user\nHi <s> there<|im_end|>\n </s>"


@cache
def core_of(name: str) -> str:
    return TOKENIZERS[name]().to_str()


def folder(tmp_path: Path, core: tokenizers.Tokenizer, **settings: Any) -> Path:
    path = write_folder(tmp_path / "folder", small("llama", n_vocab=N_VOCAB))
    return add_tokenizer(path, core, **settings)


def made(tmp_path: Path, core: tokenizers.Tokenizer, **settings: Any) -> Tokenizer:
    return FolderModel(folder(tmp_path, core, **settings)).tokenizer()


@pytest.mark.oracle
@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("settings", [{}, {"add_bos_token": False, "add_eos_token": True}])
def test_ids_and_texts_are_those_of_transformers(
    name: str, settings: dict[str, bool], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    path = folder(tmp_path, tokenizers.Tokenizer.from_str(core_of(name)), **settings)
    theirs, ours = AutoTokenizer.from_pretrained(path), FolderModel(path).tokenizer()
    for text in [PROSE, *TEXTS, WITH_CONTROL]:
        ids = theirs(text).input_ids
        assert ours.encode(text, parse_special=True) == ids, text
        assert (
            ours.encode(text, add_special=False, parse_special=True)
            == theirs(text, add_special_tokens=False).input_ids
        ), text
        bare = [id for id in ids if id not in (1, 2)]
        assert ours.decode(bare, skip_special=True) == theirs.decode(bare, skip_special_tokens=True), text
    assert ours.add_bos
    assert (ours.bos_id, ours.eos_id, ours.eog_ids) == (1, 2, {2, 4})


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name != "unigram"])
def test_control_tokens_come_from_the_template_alone(name: str, tmp_path: Path) -> None:
    tokenizer = made(tmp_path, tokenizers.Tokenizer.from_str(core_of(name)))
    assert not {1, 2, 3, 4} & set(tokenizer.encode(WITH_CONTROL, add_special=False))
    guarded = tokenizer.encode(f"<|im_start|>{tokenizer.guard('<|im_end|>')}", False, parse_special=True)
    assert guarded[0] == 3
    assert not {1, 2, 3, 4} & set(guarded[1:])
    assert all(tokenizer.is_control(id) for id in (0, 1, 2, 3, 4))


def test_pieces_that_spell_control_tokens_are_refused_in_a_text(tmp_path: Path) -> None:
    """A model of scored pieces has its control tokens among them."""
    tokenizer = made(tmp_path, tokenizers.Tokenizer.from_str(core_of("unigram")))
    with pytest.raises(
        MalformedError, match=r"plain text must not spell control token <\|im_end\|>, it does"
    ):
        tokenizer.encode("a <|im_end|>")
    assert 0 in tokenizer.encode("ö")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_text_comes_back_token_by_token(name: str, tmp_path: Path) -> None:
    core = tokenizers.Tokenizer.from_str(core_of(name))
    tokenizer = made(tmp_path, core)
    ids = tokenizer.encode("One, twö 日 <think> three")
    stream = StreamDecoder(tokenizer)
    said = "".join([*map(stream.feed, ids), stream.finish()])
    assert said.removeprefix(" ") == tokenizer.decode(ids, skip_special=True) == core.decode(ids)
    assert tokenizer.piece(tokenizer.n_tokens) == b""
    with pytest.raises(UsageError, match=f"a token must be from 0 to {N_VOCAB - 1}, found {N_VOCAB}"):
        tokenizer.piece(N_VOCAB)


def test_what_ends_a_reply_is_gathered_from_all_files(tmp_path: Path) -> None:
    path = folder(tmp_path, byte_level(), eos_token={"content": "</s>", "special": True})
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"eos_token_id": 20}))
    (path / "generation_config.json").write_text('{"eos_token_id": [21, 22]}')
    tokenizer = FolderModel(path).tokenizer()
    assert tokenizer.eog_ids == {2, 4, 20, 21, 22}
    assert tokenizer.is_control(21)


def test_the_older_file_of_special_tokens_counts_where_the_newer_is_silent(tmp_path: Path) -> None:
    path = folder(tmp_path, byte_level())
    (path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    (path / "special_tokens_map.json").write_text('{"eos_token": "</s>", "bos_token": {"content": "<s>"}}')
    tokenizer = FolderModel(path).tokenizer()
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 4)


def test_templates_come_from_either_file(tmp_path: Path) -> None:
    path = folder(tmp_path, byte_level(), chat_template=TEMPLATE)
    assert FolderModel(path).chat_template == TEMPLATE
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    add_tokenizer(path, byte_level(), chat_template=named)
    assert FolderModel(path).chat_template == "yes"
    (path / "chat_template.jinja").write_text("newer")
    assert FolderModel(path).chat_template == "newer"
    (path / "chat_template.jinja").unlink()
    add_tokenizer(path, byte_level())
    assert FolderModel(path).chat_template is None


def test_a_token_without_a_row_is_no_token_of_the_model(tmp_path: Path) -> None:
    core = byte_level()
    core.add_tokens([f"<extra{n}>" for n in range(300)])
    tokenizer = made(tmp_path, core)
    assert tokenizer.encode("<extra3>", add_special=False) == [core.token_to_id("<extra3>")]
    with pytest.raises(
        UsageError, match=r"tokens must be below 800, .* the text has <extra299>, which is 9\d\d"
    ):
        tokenizer.encode("a <extra299>")


def with_decoder(decoder: Any) -> tokenizers.Tokenizer:
    core = byte_level()
    core.decoder = decoder
    return core


def word_level() -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return core


UNREAD = {
    "words": (word_level, "the model must be BPE or Unigram, found WordLevel"),
    "no decoder": (lambda: with_decoder(None), "must have a decoder, found none"),
    "suffix": (lambda: with_decoder(decoders.BPEDecoder()), 'no decoder {"type": "BPEDecoder"'),
    "regex": (
        lambda: with_decoder(decoders.Replace(tokenizers.Regex("x+"), "")), 'no decoder {"type": "Replace"'
    ),
    "strip": (lambda: with_decoder(decoders.Strip(" ", 1, 0)), 'no decoder {"type": "Strip"'),
    "mixed": (
        lambda: with_decoder(decoders.Sequence([decoders.ByteLevel(), decoders.Replace("a", "b")])),
        'no decoder {"type": "Replace"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_tokenizers_that_ck_cannot_run_are_refused(name: str, tmp_path: Path) -> None:
    make, words = UNREAD[name]
    with pytest.raises(UnsupportedError, match=r"^folder/tokenizer\.json: ") as caught:
        made(tmp_path, make())
    assert words in str(caught.value)


BROKEN: dict[str, tuple[str, str, str]] = {
    "cut": ("tokenizer.json", "{", "must build a tokenizer: "),
    "empty": ("tokenizer.json", "", "must build a tokenizer: "),
    "a list": ("tokenizer.json", "[]", "must build a tokenizer: "),
    "bytes": ("tokenizer.json", "\udcff", "must build a tokenizer: "),
    "settings": ("tokenizer_config.json", "[]", "must be a JSON object, found a list of 0"),
    "bos": ("tokenizer_config.json", '{"bos_token": 3}', "bos_token must be a text or have one as content"),
    "template": ("tokenizer_config.json", '{"chat_template": 3}', "chat_template must be a text, found 3"),
    "eos": ("generation_config.json", '{"eos_token_id": "x"}', "eos_token_id must be whole numbers, found x"),
    "eos list": (
        "generation_config.json",
        '{"eos_token_id": [1, null]}',
        "must be whole numbers, found null",
    ),
    "eos range": (
        "generation_config.json",
        '{"eos_token_id": 800}',
        "special tokens must be below 800, found",
    ),
    "deep": ("generation_config.json", "[" * 100_000, "must be JSON: it is nested too deep"),
}


def read_all(path: Path) -> None:
    model = FolderModel(path)
    model.tokenizer()
    _ = model.chat_template


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tokenizer_files_are_one_error(name: str, tmp_path: Path) -> None:
    file, text, words = BROKEN[name]
    path = folder(tmp_path, byte_level())
    (path / file).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MalformedError) as caught:
        read_all(path)
    assert str(caught.value).startswith("folder/")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tokenizers_of_other_programs_are_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "folder", small("llama"))
    with pytest.raises(UsageError, match=r"^folder: must have tokenizer.json for text, it has none$"):
        FolderModel(path).tokenizer()
    assert FolderModel(path).words() is None
    (path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(
        UnsupportedError, match=r"^folder: must have tokenizer.json, found only tokenizer.model; "
    ):
        FolderModel(path).words()


def test_a_processor_behind_the_text_counts_too(tmp_path: Path) -> None:
    core = byte_level()
    core.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], special_tokens=[("</s>", 2)])
    tokenizer = made(tmp_path, core)
    assert not tokenizer.add_bos
    assert tokenizer.encode("ab")[-1] == 2
    assert tokenizer.encode("") == [2]
