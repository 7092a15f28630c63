"""`Tokenizer`: text to token ids and back, run by the tokenizers library.

By the rules of a GGUF file, here, or of a tokenizer.json, ck/frontend/huggingface/tokenizer.py. GGUF files
have two kinds of vocabulary: byte-level pairs, cut into words by a named pre-tokenizer, and pieces, where a
space is written U+2581 and what no piece spells falls back to byte tokens. Whatever spells a control token
inside a text is text, unless the caller asks for `parse_special`.
"""

import codecs
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from ck.errors import MalformedError, ResourceError, UsageError
from ck.frontend.architectures.vocabularies import LINES, PRETOKENIZERS
from ck.frontend.gguf import GgufFile, GgufParts
from ck.frontend.gguf.cursor import shown
from ck.frontend.piece_merges import derive_merges
from ck.frontend.vocabulary import TokenType, Vocabulary, read_vocabulary

TEXT_LIMIT_BYTES = 16 << 20
SPACE = "\u2581"
EMBEDDING = "token_embd.weight"

# Unicode keeps these two code points free for a program's own use.
_GUARD_START, _GUARD_STOP = "\ufdd0", "\ufdd1"
_GUARDED = re.compile(f"{_GUARD_START}([^{_GUARD_START}{_GUARD_STOP}]*){_GUARD_STOP}")


@dataclass(frozen=True)
class TokenRules:
    """What a model's ids mean, beside what the library knows of them.

    kind             "byte_pairs" when tokens are written byte by byte, else "pieces"
    n_vocab          V; ids from V on, which the library may know, have no row in the model
    bos_id, eos_id   None when the vocabulary has none
    eog_ids          tokens that end a reply
    before, after    what `encode` puts around a text when `add_special` is set
    hidden           tokens that a reader is not meant to see; of these, `control` ones are no text's
    strips_space     a text was encoded with a space before it, which `decode` takes away
    piece            the bytes that a token stands for, by its id and its text
    """

    kind: str
    n_vocab: int
    bos_id: int | None
    eos_id: int | None
    eog_ids: frozenset[int]
    before: tuple[int, ...]
    after: tuple[int, ...]
    hidden: frozenset[int]
    control: frozenset[int]
    strips_space: bool
    piece: Callable[[int, str], bytes]


class Tokenizer:
    """Encodes and decodes for one vocabulary.

    kind              byte_pairs or pieces
    n_vocab           V, rows of the model
    bos_id, eos_id    None when the vocabulary has none
    eog_ids           tokens that end a reply
    add_bos           whether `encode` puts BOS before a text when `add_special` is set
    """

    def __init__(self, core: tokenizers.Tokenizer, rules: TokenRules, name: str = "tokenizer") -> None:
        """`name` is the file that errors speak of."""
        self.kind = rules.kind
        self.n_vocab = rules.n_vocab
        self.bos_id, self.eos_id = rules.bos_id, rules.eos_id
        self.eog_ids = rules.eog_ids
        self.add_bos = rules.bos_id is not None and rules.before == (rules.bos_id,)
        self._name = name
        self._rules = rules
        self._hidden = rules.hidden
        self._core = core

    @classmethod
    def from_vocabulary(cls, vocabulary: Vocabulary, name: str = "tokenizer") -> "Tokenizer":
        """The tokenizer of a GGUF file's vocabulary. Raises MalformedError when it builds none."""
        return cls(_build(vocabulary, name), _rules(vocabulary), name)

    @classmethod
    def from_gguf(cls, file: GgufFile | GgufParts) -> "Tokenizer":
        """The tokenizer of a file. Raises MalformedError, UnsupportedError as read_vocabulary does."""
        n_rows = file.tensors[EMBEDDING].shape[0] if EMBEDDING in file.tensors else 0
        return cls.from_vocabulary(read_vocabulary(file.metadata, n_rows), shown(file.path.name))

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """The ids of `text`; with `parse_special` the texts of control tokens become those tokens.

        Raises UsageError when `text` cannot be UTF-8, ResourceError when it has more than 16 MiB.
        """
        _check_text(text)
        parts = list(map(_unmarked, _GUARDED.split(text))) if parse_special else [text]
        # Odd parts stood between guard marks.
        ids = [id for n, part in enumerate(parts) for id in self._encode(part, parse_special and n % 2 == 0)]
        return [*self._rules.before, *ids, *self._rules.after] if add_special else ids

    def guard(self, text: str) -> str:
        """`text` with each control token that it spells between marks, where `parse_special` will not see it.

        For what a user writes, before a chat template puts it among real control tokens. Raises as `encode`.
        """
        _check_text(text)
        text = _unmarked(text)
        self._core.encode_special_tokens = False
        found = self._core.encode(text, add_special_tokens=False)
        end, parts = 0, list[str]()
        for id, (start, stop) in zip(found.ids, found.offsets, strict=True):
            if id in self._hidden:
                parts += [text[end:start], _GUARD_START, text[start:stop], _GUARD_STOP]
                end = stop
        return "".join([*parts, text[end:]])

    def _encode(self, text: str, parse_special: bool) -> list[int]:
        self._core.encode_special_tokens = not parse_special
        ids = self._core.encode(text, add_special_tokens=False).ids
        if not parse_special and not self._rules.control.isdisjoint(ids):
            token = next(id for id in ids if id in self._rules.control)
            text = shown(self._core.id_to_token(token) or "")
            raise MalformedError(f"{self._name}: plain text must not spell control token {text}, it does")
        if ids and max(ids) >= self.n_vocab:
            text = shown(self._core.id_to_token(max(ids)) or "")
            raise UsageError(
                f"{self._name}: tokens must be below {self.n_vocab}, the rows of the model, "
                f"the text has {text}, which is {max(ids)}"
            )
        return ids

    def decode(self, ids: list[int], skip_special: bool = False) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD; `skip_special` omits control tokens."""
        kept = [id for id in ids if not (skip_special and id in self._hidden)]
        data = b"".join(map(self.piece, kept))
        if self._rules.strips_space:
            first = next((id for id in kept if id not in self._hidden), None)
            if first is not None and self.piece(first).startswith(b" "):
                start = sum(len(self.piece(id)) for id in kept[: kept.index(first)])
                data = data[:start] + data[start + 1 :]
        return data.decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """The bytes that `token` stands for; none for a row of the model that no token has.

        Raises UsageError when there is no such row.
        """
        if not 0 <= token < self.n_vocab:
            raise UsageError(f"a token must be from 0 to {self.n_vocab - 1}, found {token}")
        text = self._core.id_to_token(token)
        return b"" if text is None else self._rules.piece(token, text)

    def is_control(self, token: int) -> bool:
        """Whether `token` is a control token, which a reader of the text is not meant to see."""
        return token in self._hidden

    @property
    def n_tokens(self) -> int:
        """Tokens that have a text."""
        return self._core.get_vocab_size()

    def to_json(self) -> str:
        """The tokenizer as the library's own tokenizer.json."""
        self._core.encode_special_tokens = False
        return self._core.to_str()


class StreamDecoder:
    """Decodes tokens as they come; the bytes of a character that is not complete yet are held back."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The text that `token` completes, often empty."""
        if self._skip_special and self._tokenizer.is_control(token):
            return ""
        return self._decoder.decode(self._tokenizer.piece(token))

    def finish(self) -> str:
        """What is held back, as U+FFFD; the decoder starts anew."""
        return self._decoder.decode(b"", final=True)


def _check_text(text: str) -> None:
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError as problem:
        raise UsageError(
            f"text must be Unicode, character {problem.start} is half of a surrogate pair"
        ) from None
    if n_bytes > TEXT_LIMIT_BYTES:
        raise ResourceError(f"a text must have at most {TEXT_LIMIT_BYTES} bytes, found {n_bytes}")


def _unmarked(text: str) -> str:
    return text.replace(_GUARD_START, "").replace(_GUARD_STOP, "")


def _byte_of_char() -> dict[str, bytes]:
    """Byte-level pairs write each byte as one printable character: itself, or one from U+0100 on.

    Source: Radford et al. 2019, bytes_to_unicode in the code of GPT-2.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    chars = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    return {char: bytes([byte]) for char, byte in chars.items()}


BYTE_OF_CHAR = _byte_of_char()


def _one_of(vocabulary: Vocabulary, *types: TokenType) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.isin(vocabulary.types, types)


def _rules(vocabulary: Vocabulary) -> TokenRules:
    types = vocabulary.types.astype(np.int8)
    is_pieces = vocabulary.kind == "pieces"

    def piece(token: int, text: str) -> bytes:
        kind = types[token]
        if kind == TokenType.BYTE:
            return bytes([int(text[3:5], 16)])
        if kind in (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED):
            return text.encode()
        if is_pieces:
            return text.replace(SPACE, " ").encode()
        return b"".join(BYTE_OF_CHAR.get(char) or char.encode() for char in text)

    before = [vocabulary.bos_id] if vocabulary.add_bos and vocabulary.bos_id is not None else []
    after = [vocabulary.eos_id] if vocabulary.add_eos and vocabulary.eos_id is not None else []
    return TokenRules(
        kind=vocabulary.kind,
        n_vocab=len(vocabulary.tokens),
        bos_id=vocabulary.bos_id,
        eos_id=vocabulary.eos_id,
        eog_ids=vocabulary.eog_ids,
        before=tuple(before),
        after=tuple(after),
        hidden=_ids_of(vocabulary, TokenType.CONTROL, TokenType.UNKNOWN),
        control=_ids_of(vocabulary, TokenType.CONTROL),
        strips_space=vocabulary.add_space_prefix,
        piece=piece,
    )


def _ids_of(vocabulary: Vocabulary, *types: TokenType) -> frozenset[int]:
    return frozenset(np.flatnonzero(_one_of(vocabulary, *types)).tolist())


def _build(vocabulary: Vocabulary, name: str) -> tokenizers.Tokenizer:
    with library_errors(f"{name}: the vocabulary must build a tokenizer"):
        core = tokenizers.Tokenizer(_model(vocabulary))
        _set_rules(core, vocabulary)
        _add_special(core, vocabulary)
        return core


@contextmanager
def library_errors(what: str) -> Generator[None]:
    """Raise MalformedError, `what` and the library's reason, for whatever it raises in the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    # The library panics with an exception that derives from BaseException alone.
    except BaseException as problem:
        raise MalformedError(f"{what}: {shown(str(problem))}") from problem


def _model(vocabulary: Vocabulary) -> models.BPE:
    if vocabulary.kind == "byte_pairs":
        ignore_merges = PRETOKENIZERS[vocabulary.pre].ignore_merges
        return models.BPE(vocabulary.index, vocabulary.merges, ignore_merges=ignore_merges)
    usable = _one_of(vocabulary, TokenType.NORMAL, TokenType.UNUSED, TokenType.UNDEFINED)
    by_scores = len(vocabulary.scores) > 0
    merges = derive_merges(vocabulary.tokens, vocabulary.scores, usable) if by_scores else vocabulary.merges
    unknown = None if vocabulary.unk_id is None else vocabulary.tokens[vocabulary.unk_id]
    return models.BPE(vocabulary.index, merges, unk_token=unknown, byte_fallback=True)


def _set_rules(core: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
    if vocabulary.kind == "pieces":
        prefix = [normalizers.Prepend(SPACE)] if vocabulary.add_space_prefix else []
        core.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
        if not len(vocabulary.scores):
            core.pre_tokenizer = pre_tokenizers.Split(Regex(LINES), "isolated")
        strip = [decoders.Strip(" ", 1, 0)] if vocabulary.add_space_prefix else []
        spaces = decoders.Replace(SPACE, " ")
        core.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse(), *strip])
    else:
        splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in PRETOKENIZERS[vocabulary.pre].patterns]
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
        core.decoder = decoders.ByteLevel()
    if vocabulary.add_bos and vocabulary.bos_id is not None:
        # For readers of to_json; encode itself adds the ids.
        bos = vocabulary.tokens[vocabulary.bos_id]
        core.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], special_tokens=[(bos, vocabulary.bos_id)]
        )


def _add_special(core: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
    """Tokens matched before anything else: control tokens when asked for, user-defined ones always."""
    # The library's stubs leave the list's element type open, which strict checking refuses.
    adder = cast(Any, core)
    hidden = np.flatnonzero(_one_of(vocabulary, TokenType.CONTROL, TokenType.UNKNOWN)).tolist()
    own = np.flatnonzero(_one_of(vocabulary, TokenType.USER_DEFINED)).tolist()
    text = vocabulary.tokens
    adder.add_special_tokens(
        [AddedToken(text[id], special=True, normalized=False) for id in hidden if text[id]]
    )
    adder.add_tokens([AddedToken(text[id], special=False, normalized=False) for id in own if text[id]])
