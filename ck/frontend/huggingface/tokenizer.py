"""A `Tokenizer` of tokenizer.json, which the tokenizers library runs as it stands.

The files around it say which tokens are special and what ends a reply: tokenizer_config.json and
special_tokens_map.json name tokens, generation_config.json and config.json ids.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import tokenizers
from tokenizers import AddedToken

from ck.errors import MalformedError, UnsupportedError
from ck.frontend.architectures.outward.config import written
from ck.frontend.gguf.cursor import shown
from ck.frontend.huggingface.decoder import read_decoder
from ck.frontend.model_file import Words
from ck.frontend.tokenizer import Tokenizer, TokenRules, library_errors
from ck.frontend.vocabulary import reply_ends

# The vocabularies of large multilingual models take 35 MB.
TOKENIZER_LIMIT_BYTES = 256 << 20
_MODELS = ("BPE", "Unigram")
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_LISTED = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class TokenizerFiles:
    """What a tokenizer is made of.

    text      of tokenizer.json
    settings  tokenizer_config.json over special_tokens_map.json
    ends      ids that end a reply
    where     what errors speak of
    """

    text: bytes
    where: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ends: tuple[int, ...] = ()


def make_tokenizer(files: TokenizerFiles, n_vocab: int) -> Tokenizer:
    """The tokenizer for a model of `n_vocab` rows.

    Raises MalformedError when the library takes no tokenizer from the text or a setting has the wrong type,
    UnsupportedError for a kind of model or of decoder that ck does not have.
    """
    with library_errors(f"{files.where}: must build a tokenizer"):
        core = tokenizers.Tokenizer.from_buffer(files.text)
        core.no_truncation()
        core.no_padding()
    kind = type(core.model).__name__
    if kind not in _MODELS:
        raise UnsupportedError(
            f"{files.where}: the model must be {' or '.join(_MODELS)}, found {shown(kind)}"
        )
    _add_named(core, files)
    decoder = read_decoder(cast(Any, core).decoder, files.where)
    bos, eos = (_id_of(core, files, name) for name in ("bos_token", "eos_token"))
    added: dict[int, AddedToken] = core.get_added_tokens_decoder()
    named = {*files.ends, *(() if eos is None else (eos,))}
    texts = {token.content: id for id, token in added.items() if id < n_vocab}
    eog = reply_ends(named, texts, lambda token: not added[token].special)
    hidden = {id for id, token in added.items() if token.special} | eog
    before, after = _around(core, files.where)
    _check_rows({*named, *before, *after}, n_vocab, files.where)
    rules = TokenRules(
        kind=decoder.kind,
        n_vocab=n_vocab,
        bos_id=bos,
        eos_id=eos,
        eog_ids=frozenset(eog),
        before=before,
        after=after,
        hidden=frozenset(hidden),
        control=frozenset(hidden - _unknown(core, files)),
        strips_space=decoder.strips_space,
        piece=lambda token, text: decoder.bytes_of(text),
    )
    return Tokenizer(core, rules, files.where)


def words_of(tokenizer: Tokenizer) -> Words:
    """The tokenizer in short."""

    def word(token: int | None) -> tuple[int, str] | None:
        return None if token is None else (token, tokenizer.piece(token).decode("utf-8", "replace"))

    eog = (word(token) for token in sorted(tokenizer.eog_ids))
    return Words(
        kind=tokenizer.kind,
        pre="tokenizer.json",
        n_tokens=tokenizer.n_tokens,
        bos=word(tokenizer.bos_id),
        eos=word(tokenizer.eos_id),
        eog=tuple(end for end in eog if end is not None),
        add_bos=tokenizer.add_bos,
    )


def setting_text(settings: Mapping[str, Any], name: str, where: str) -> str | None:
    """A token's text, given as such or as an object with `content`; None when there is none."""
    value = settings.get(name)
    text: Any = cast(Mapping[str, Any], value).get("content") if isinstance(value, Mapping) else value
    if text is not None and not isinstance(text, str):
        raise MalformedError(f"{where}: {name} must be a text or have one as content, found {written(value)}")
    return text


def _add_named(core: tokenizers.Tokenizer, files: TokenizerFiles) -> None:
    """Make the tokens that the settings name special, as transformers does."""
    texts = [setting_text(files.settings, name, files.where) for name in NAMED]
    for name in _LISTED:
        listed = files.settings.get(name)
        entries = cast(list[Any], listed) if isinstance(listed, list) else []
        texts += [setting_text({name: entry}, name, files.where) for entry in entries]
    known = {token.content for token in core.get_added_tokens_decoder().values()}
    tokens = [
        AddedToken(text, special=True, normalized=False) for text in texts if text and text not in known
    ]
    with library_errors(f"{files.where}: special tokens must be tokens"):
        # The library's stubs leave the list's element type open, which strict checking refuses.
        cast(Any, core).add_special_tokens(tokens)


def _id_of(core: tokenizers.Tokenizer, files: TokenizerFiles, name: str) -> int | None:
    text = setting_text(files.settings, name, files.where)
    return core.token_to_id(text) if text else None


# Unicode keeps this code point free: no vocabulary spells it.
_NO_CHARACTER = "\ufdd2"


def _unknown(core: tokenizers.Tokenizer, files: TokenizerFiles) -> set[int]:
    """The tokens that a text becomes where nothing else spells it."""
    with library_errors(f"{files.where}: must encode a text"):
        found = {int(token.id) for token in core.model.tokenize(_NO_CHARACTER)}
    named = _id_of(core, files, "unk_token")
    return found if named is None else {*found, named}


def _check_rows(tokens: Iterable[int], n_vocab: int, where: str) -> None:
    """Raise MalformedError for a special token that the model has no row for."""
    wrong = next((token for token in tokens if not 0 <= token < n_vocab), None)
    if wrong is not None:
        raise MalformedError(f"{where}: special tokens must be below {n_vocab}, found {wrong}")


def _around(core: tokenizers.Tokenizer, where: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that tokenizer.json puts before and after a text; what settings say of it, transformers ignores."""
    with library_errors(f"{where}: must encode a text"):
        found = core.encode("a")
    marks = found.special_tokens_mask
    n_before = _leading(marks)
    n_after = _leading(marks[n_before:][::-1])
    return tuple(found.ids[:n_before]), tuple(found.ids[len(marks) - n_after :])


def _leading(marks: Iterable[int]) -> int:
    """How many ones `marks` begin with."""
    count = 0
    for mark in marks:
        if not mark:
            break
        count += 1
    return count
