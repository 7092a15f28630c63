"""`Vocabulary`: the tokenizer's part of a GGUF header, typed and consistent in itself.

Source: the GGUF specification, section "Tokenizer"; defaults that files leave out follow llama.cpp.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.frontend.architectures.vocabularies import KINDS, MERGED_PIECES, PRETOKENIZERS
from ck.frontend.gguf import Metadata
from ck.frontend.gguf.cursor import shown

TOKEN_LIMIT_CHARS = 65_536
_PREFIX = "tokenizer.ggml."
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")

# Texts that end a reply in the families that have them, whether or not the header names their ids: the end
# of a turn or a text, then what stands between files in training. Source: llama.cpp, src/llama-vocab.cpp.
_ENDS = frozenset(
    {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
        "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
        "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "[e~[",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|file_sep|>",
        "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>",
    }
)  # fmt: skip


class TokenType(IntEnum):
    """What a token is, as tokenizer.ggml.token_type numbers it."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and rules of one model; ids are positions in `tokens`.

    kind      "byte_pairs" (with `merges` and pre-tokenizer `pre`) or "pieces" (with `scores`, or `merges`)
    types     [V] i32, a TokenType each
    scores    [V] f32, empty where there are merges
    index     id of each token's text
    eog_ids   tokens that end a reply
    """

    kind: str
    pre: str
    tokens: list[str]
    types: NDArray[np.int32]
    scores: NDArray[np.float32]
    merges: list[tuple[str, str]]
    index: dict[str, int]
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    eog_ids: frozenset[int]
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool


def read_vocabulary(metadata: Metadata, n_rows: int) -> Vocabulary:
    """The vocabulary of a model whose embedding has `n_rows` rows.

    Raises MalformedError when arrays disagree in type or length, ids leave the vocabulary or merges name
    tokens that it does not have; UnsupportedError when ck has no such kind of vocabulary or pre-tokenizer.
    """
    kind, pre, has_merges = _kind(metadata)
    tokens = metadata.strings(_PREFIX + "tokens")
    index = _index(metadata, tokens, n_rows)
    types = _types(metadata, tokens)
    scores, merges = np.empty(0, np.float32), []
    if not has_merges:
        scores = _array(metadata, "scores", "f32", len(tokens))
        if not np.isfinite(scores).all():
            raise metadata.error(f"key {_PREFIX}scores must hold finite numbers only, found others")
    else:
        merges = _merges(metadata, index)
    special = _SpecialIds(metadata, len(tokens), has_defaults=not has_merges)
    eog_ids = reply_ends(special.ending, index, lambda token: types[token] != TokenType.CONTROL)
    types[list(eog_ids)] = TokenType.CONTROL
    by_default = PRETOKENIZERS[pre].add_bos if kind == "byte_pairs" else not has_merges
    return Vocabulary(
        kind=kind,
        pre=pre,
        tokens=tokens,
        types=types,
        scores=scores,
        merges=merges,
        index=index,
        bos_id=special.bos,
        eos_id=special.eos,
        unk_id=special.unk,
        eog_ids=frozenset(eog_ids),
        add_bos=_adds(metadata, "bos", by_default, special.bos),
        add_eos=_adds(metadata, "eos", False, special.eos),
        add_space_prefix=not has_merges and metadata.flag(_PREFIX + "add_space_prefix", True),
    )


def reply_ends(named: Iterable[int], index: Mapping[str, int], is_word: Callable[[int], bool]) -> set[int]:
    """Ids that end a reply: those that the model names, and the tokens by which families end one.

    `is_word` tells a token that the model has for text: such a </s> is markup. llama.cpp stops there.
    """
    named = set(named)
    found = _ENDS & index.keys()
    # Where a call ends with a token of its own, <|end|> ends but a part of a reply.
    if found >= {"<|return|>", "<|call|>"} or ("<|flush|>" in found and found & {"<|call|>", "<|calls|>"}):
        found -= {"<|end|>"}
        named -= {index.get("<|end|>", -1)}
    if "</s>" in found and ("<|tool_response>" in found or is_word(index["</s>"])):
        found -= {"</s>"}
    return named | {index[text] for text in found}


def _kind(metadata: Metadata) -> tuple[str, str, bool]:
    """Kind, pre-tokenizer, and whether the file has merges."""
    model = metadata.text(_PREFIX + "model")
    pre = metadata.text(_PREFIX + "pre", "default")
    if model not in KINDS:
        known, found = ", ".join(sorted(KINDS)), f"{shown(model)}, with pre-tokenizer {shown(pre)}"
        raise metadata.unsupported(f"key {_PREFIX}model must be one of {known}, found {found}")
    if KINDS[model] == "byte_pairs" and pre not in PRETOKENIZERS:
        near = ", ".join(difflib.get_close_matches(pre[:80], PRETOKENIZERS, n=1))
        hint = f"; did the file mean {near}?" if near else ""
        raise metadata.unsupported(
            f"key {_PREFIX}pre must be one of the {len(PRETOKENIZERS)} pre-tokenizers that ck has, "
            f"found {shown(pre)}{hint}"
        )
    return KINDS[model], pre, KINDS[model] == "byte_pairs" or model in MERGED_PIECES


def _index(metadata: Metadata, tokens: list[str], n_rows: int) -> dict[str, int]:
    key = _PREFIX + "tokens"
    if len(tokens) != n_rows:
        raise metadata.error(
            f"key {key} must have {n_rows} tokens, one a row of the embedding, found {len(tokens)}"
        )
    longest = max(map(len, tokens))
    if longest > TOKEN_LIMIT_CHARS:
        raise metadata.error(
            f"tokens of key {key} must have at most {TOKEN_LIMIT_CHARS} characters, found {longest}"
        )
    index = {token: position for position, token in enumerate(tokens)}
    if len(index) != len(tokens):
        # The index keeps the last of equal tokens.
        first = next(position for position, token in enumerate(tokens) if index[token] != position)
        text = shown(tokens[first])
        raise metadata.error(f"tokens must differ, {text} is token {first} and token {index[tokens[first]]}")
    return index


def _types(metadata: Metadata, tokens: list[str]) -> NDArray[np.int32]:
    if _PREFIX + "token_type" not in metadata:
        return np.full(len(tokens), TokenType.NORMAL, np.int32)
    types = _array(metadata, "token_type", "i32", len(tokens))
    low, high = int(types.min()), int(types.max())
    if low < TokenType.UNDEFINED or high > TokenType.BYTE:
        raise metadata.error(
            f"key {_PREFIX}token_type must hold 0 to {TokenType.BYTE}, found {low} to {high}"
        )
    for position in np.flatnonzero(types == TokenType.BYTE).tolist():
        if not _BYTE_TOKEN.fullmatch(tokens[position]):
            text = shown(tokens[position])
            raise metadata.error(f"byte token {position} must be written <0x00> to <0xFF>, found {text}")
    return types


def _array(metadata: Metadata, name: str, kind: str, length: int) -> NDArray[Any]:
    array = metadata.numbers(_PREFIX + name, kind)
    if len(array) != length:
        raise metadata.error(
            f"key {_PREFIX}{name} must have {length} elements, one a token, found {len(array)}"
        )
    return array


def _merges(metadata: Metadata, index: dict[str, int]) -> list[tuple[str, str]]:
    """Pairs of tokens, best first; of equal pairs the first counts."""
    texts = metadata.strings(_PREFIX + "merges")
    # The first character may be the space itself, so the search for the one between starts behind it.
    cuts = [text.find(" ", 1) for text in texts]
    pairs = [(text[:cut], text[cut + 1 :]) for text, cut in zip(texts, cuts, strict=True)]
    if min(cuts, default=1) < 0 or not all(right for _, right in pairs):
        first = next(n for n, (_, right) in enumerate(pairs) if cuts[n] < 0 or not right)
        found = shown(texts[first])
        raise metadata.error(f"merge {first} must be two tokens with a space between, found {found}")
    known = index.keys()
    for parts in (
        [left for left, _ in pairs],
        [right for _, right in pairs],
        [left + right for left, right in pairs],
    ):
        if not known >= set(parts):
            first = next(n for n, part in enumerate(parts) if part not in index)
            raise metadata.error(f"merge {first} must be of tokens, {shown(parts[first])} is none")
    return list(dict.fromkeys(pairs))


class _SpecialIds:
    """The ids that the header names, in range."""

    def __init__(self, metadata: Metadata, n_tokens: int, has_defaults: bool) -> None:
        self._metadata = metadata
        self._n_tokens = n_tokens
        defaults = {"bos": 1, "eos": 2, "unknown": 0} if has_defaults else {}
        ending = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
        names = ("bos", "unknown", "padding", "seperator", "mask", *ending)
        ids = {name: self._read(name, defaults.get(name)) for name in names}
        self.bos, self.eos, self.unk = ids["bos"], ids["eos"], ids["unknown"]
        self.ending = {id for name in ending if (id := ids[name]) is not None}

    def _read(self, name: str, default: int | None) -> int | None:
        key = f"{_PREFIX}{name}_token_id"
        if key not in self._metadata:
            return default if default is not None and default < self._n_tokens else None
        token = self._metadata.integer(key)
        if not 0 <= token < self._n_tokens:
            raise self._metadata.error(f"key {key} must be below {self._n_tokens}, found {token}")
        return token


def _adds(metadata: Metadata, name: str, default: bool, token: int | None) -> bool:
    """Whether the file asks for the token `name` around a text; without a key, when there is such a token."""
    key = f"{_PREFIX}add_{name}_token"
    adds = metadata.flag(key, default and token is not None)
    if adds and token is None:
        raise metadata.error(
            f"key {_PREFIX}{name}_token_id is required when {key} is true, the file has none"
        )
    return adds
