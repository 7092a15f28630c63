"""Byte-level BPE tokenizers for training: made from a corpus, kept as tokenizer.json, exported to GGUF.

Kinds: `bpe`, whose base alphabet is the 256 bytes, and `ascii_bpe`, whose base alphabet is the 98 bytes of
printable ASCII, tab, LF and CR. Ids are: <|endoftext|> at 0, the reserved tokens, the alphabet, the merges.
Words are cut by the pattern that llama.cpp calls gpt-2. A reserved token is one id wherever its text stands.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers

from ck.errors import MalformedError, UnsupportedError, UsageError
from ck.frontend.gguf.cursor import shown
from ck.frontend.vocabulary import TokenType
from ck.train.corpus import Document, check_ascii
from ck.train.files import replacing

Kind = Literal["bpe", "ascii_bpe"]

# Starts every document; BOS and EOS of the models that are trained on them.
END_OF_TEXT = "<|endoftext|>"
PRE_TOKENIZER = "gpt-2"
ASCII = "\t\n\r" + "".join(map(chr, range(0x20, 0x7F)))

# A pair that occurs once is no rule of the language.
_MIN_FREQUENCY = 2
# Texts are given to the library in parts of about so many characters: it takes a hundred bytes for each.
_PART_CHARS = 1 << 16
_PARTS_AT_ONCE = 8
# A space or line end after a visible character starts a new word, so cutting before it changes no token.
_CUT = re.compile(r"(?<=\S)[ \n]")


class TrainingTokenizer:
    """Encodes and decodes by one tokenizer.json; what a base has in its place is in model_tokenizer.py.

    json_text    the file, and sha256 its hash
    n_vocab      V
    end_id       the id of <|endoftext|>
    kind         "bpe", "ascii_bpe", or None when the base alphabet is neither's
    reserved     text and id of the tokens that are matched before all others, <|endoftext|> among them
    token_bytes  [V] i32, the bytes of text that each token stands for; 0 for <|endoftext|>
    """

    is_exact = True

    def __init__(self, json_text: str, name: str = "tokenizer") -> None:
        """`name` is the file that errors speak of. Raises as `load_tokenizer`."""
        self.json_text = json_text
        self.sha256 = hashlib.sha256(json_text.encode()).hexdigest()
        added = _check_rules(json_text, name)
        self._core = _build(json_text, name)
        vocabulary = self._core.get_vocab()
        self.n_vocab = len(vocabulary)
        if sorted(vocabulary.values()) != list(range(self.n_vocab)):
            raise MalformedError(f"{name}: {self.n_vocab} tokens must have the ids 0 to {self.n_vocab - 1}")
        self.tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        self.reserved = {token["content"]: vocabulary[token["content"]] for token in added}
        self.end_id = self.reserved[END_OF_TEXT]
        self._control = {vocabulary[t["content"]] for t in added if t.get("special")} | {self.end_id}
        # A byte-level token has one character a byte, and reserved tokens are ASCII.
        self.token_bytes = np.array([len(text) for text in self.tokens], np.int32)
        self.token_bytes[self.end_id] = 0
        self.kind = self._find_kind()

    def _find_kind(self) -> Kind | None:
        alphabet = {text for text in self.tokens if len(text) == 1}
        by_kind: dict[Kind, set[str]] = {
            "bpe": set(_alphabet("bpe")),
            "ascii_bpe": set(_alphabet("ascii_bpe")),
        }
        return next((kind for kind, letters in by_kind.items() if letters == alphabet), None)

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids of `text` [T], without <|endoftext|> before it.

        Bytes that the vocabulary has no token for are left out; a vocabulary of kind `bpe` has them all.
        """
        parts, ids = _parts(text), [np.empty(0, np.int32)]
        while some := list(islice(parts, _PARTS_AT_ONCE)):
            encoded = self._core.encode_batch_fast(some, add_special_tokens=False)
            ids += [np.array(part.ids, np.int32) for part in encoded]
        return np.concatenate(ids)

    def decode(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> str:
        """The text of `ids`, reserved tokens included; bytes that are no UTF-8 become U+FFFD."""
        return self._core.decode(list(map(int, ids)), skip_special_tokens=False)

    def types(self) -> list[TokenType]:
        """What each token is to a GGUF file: the reserved ones besides <|endoftext|> are part of the text."""
        own = set(self.reserved.values())
        kinds = {id: TokenType.CONTROL if id in self._control else TokenType.USER_DEFINED for id in own}
        return [kinds.get(id, TokenType.NORMAL) for id in range(self.n_vocab)]

    def save(self, path: Path) -> None:
        """Write tokenizer.json at `path`, whole or not at all."""
        with replacing(path) as file:
            file.write(self.json_text.encode())


def load_tokenizer(path: Path) -> TrainingTokenizer:
    """The tokenizer of a tokenizer.json, or of a directory that has one.

    Raises UsageError when there is none, MalformedError when it does not hold together, UnsupportedError when
    it is no byte-level BPE that cuts words as gpt-2 and has <|endoftext|>: nothing else can be exported.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{file}: must be a tokenizer.json, there is no such file") from None
    try:
        return TrainingTokenizer(data.decode(), str(file))
    except UnicodeDecodeError as problem:
        raise MalformedError(f"{file}: must be UTF-8, byte {problem.start} is not") from None


def tokenizer_sha256(path: Path) -> str:
    """SHA-256 of a tokenizer.json, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def train_tokenizer(
    documents: Iterable[Document],
    kind: Kind,
    vocab_size: int,
    special: Sequence[str] = (),
    smallest: int = 0,
) -> TrainingTokenizer:
    """A tokenizer of `vocab_size` tokens in all, with the reserved tokens `special` besides <|endoftext|>.

    The same documents give the same file, byte for byte. smallest: the least size that may be asked for, and
    no error advises less. Raises UsageError when `vocab_size` is less than alphabet and reserved tokens or
    more than the documents have merges for, or a reserved token cannot be one; MalformedError for text
    outside the alphabet.
    """
    reserved = _check_special(special)
    letters = _alphabet(kind)
    least = len(reserved) + len(letters)
    if vocab_size < least:
        raise UsageError(
            f"tokenizer: the vocabulary size must be at least {least} for {kind}, {len(letters)} for the"
            f" alphabet and {len(reserved)} reserved, found {vocab_size}"
        )
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = _cutter()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        show_progress=False,
        special_tokens=reserved,
        initial_alphabet=letters,
    )
    core.train_from_iterator(_training_texts(documents, kind, reserved), trainer)
    _check_count(core.get_vocab_size(), vocab_size, smallest)
    return TrainingTokenizer(_assemble(json.loads(core.to_str())["model"], reserved))


def _check_count(n_tokens: int, wanted: int, smallest: int) -> None:
    if n_tokens >= wanted:
        return
    advice = f"ask for a vocabulary size of {n_tokens} or less, or add text"
    if n_tokens < smallest:
        advice = f"add text, {smallest} tokens are the least there may be"
    raise UsageError(f"tokenizer: the text must give {wanted} tokens, it gives {n_tokens} at most; {advice}")


def _check_special(special: Sequence[str]) -> list[str]:
    reserved = list(dict.fromkeys([END_OF_TEXT, *special]))
    for token in reserved:
        if not re.fullmatch("[!-~]{2,64}", token):
            raise UsageError(
                f"tokenizer: a reserved token must be 2 to 64 printable ASCII characters without spaces,"
                f" found {shown(token) or 'none'}"
            )
        # Where one is part of another, readers disagree on which of them a text holds.
        if whole := next((other for other in reserved if token != other and token in other), None):
            raise UsageError(
                f"tokenizer: no reserved token may be part of another, {token} is part of {whole}"
            )
    return reserved


def _alphabet(kind: Kind) -> list[str]:
    """The characters that byte-level tokens write the bytes of the base alphabet as, sorted."""
    if kind == "bpe":
        return sorted(pre_tokenizers.ByteLevel.alphabet())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(ASCII)
    return sorted("".join(word for word, _ in words))


def _cutter() -> pre_tokenizers.ByteLevel:
    """What llama.cpp calls gpt-2."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _parts(text: str) -> Iterator[str]:
    """`text` in parts that are encoded one by one to the same tokens."""
    start = 0
    while len(text) - start > _PART_CHARS:
        cut = _CUT.search(text, start + _PART_CHARS)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def _training_texts(documents: Iterable[Document], kind: Kind, reserved: Sequence[str]) -> Iterator[str]:
    matches = re.compile("|".join(map(re.escape, reserved)))
    for document in documents:
        if kind == "ascii_bpe":
            check_ascii(document)
        # A reserved token is never spelled, so no merge is learnt from its text.
        for stretch in matches.split(document.text):
            yield from _parts(stretch)


def _assemble(model: dict[str, Any], reserved: Sequence[str]) -> str:
    """The tokenizer.json of a trained model."""
    merges = [(left, right) for left, right in model["merges"]]
    core = tokenizers.Tokenizer(models.BPE(model["vocab"], merges))
    core.pre_tokenizer = _cutter()
    core.decoder = decoders.ByteLevel()
    # The library's stubs leave the list's element type open, which strict checking refuses.
    adder = cast(Any, core)
    adder.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    adder.add_tokens([AddedToken(text, special=False, normalized=False) for text in reserved[1:]])
    # For readers of the file: documents start with the token in training too.
    core.post_processor = processors.TemplateProcessing(
        single=[END_OF_TEXT, "$A"], special_tokens=[(END_OF_TEXT, 0)]
    )
    return core.to_str(pretty=True) + "\n"


def _build(json_text: str, name: str) -> tokenizers.Tokenizer:
    try:
        core = tokenizers.Tokenizer.from_str(json_text)
    except (KeyboardInterrupt, SystemExit):
        raise
    # The library panics with an exception that derives from BaseException alone.
    except BaseException as problem:
        raise MalformedError(f"{name}: must build a tokenizer: {shown(str(problem))}") from problem
    core.no_truncation()
    core.no_padding()
    return core


# What a file may say, by part; a field that it leaves out is as it should be.
_RULES: dict[str, dict[str, Any]] = {
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "byte_fallback": False,
        "ignore_merges": False,
    },
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
    "decoder": {"type": "ByteLevel"},
}


def _check_rules(json_text: str, name: str) -> list[dict[str, Any]]:
    """The reserved tokens of a tokenizer.json that ck can train with. Raises as `load_tokenizer`."""
    try:
        raw: object = json.loads(json_text)
    except (ValueError, RecursionError):
        raise MalformedError(f"{name}: must be JSON") from None
    parts = cast(dict[str, Any], raw) if isinstance(raw, dict) else {}
    for part, rules in _RULES.items():
        fields = parts.get(part)
        if not isinstance(fields, dict) or "type" not in fields:
            raise UnsupportedError(f"{name}: {part} must be {rules['type']}, found none")
        for key, wanted in rules.items():
            found = cast(dict[str, Any], fields).get(key, wanted)
            if found != wanted and not (wanted is None and found == ""):
                what, seen = json.dumps(wanted), shown(json.dumps(found))
                raise UnsupportedError(f"{name}: {key} of {part} must be {what}, found {seen}")
    if parts.get("normalizer") is not None:
        raise UnsupportedError(f"{name}: normalizer must be null, the file has one, which changes the text")
    return _added_tokens(parts.get("added_tokens"), name)


def _added_tokens(raw: object, name: str) -> list[dict[str, Any]]:
    tokens = cast(list[object], raw) if isinstance(raw, list) else []
    added = [cast(dict[str, Any], token) for token in tokens if isinstance(token, dict)]
    if len(added) < len(tokens) or not all(isinstance(token.get("content"), str) for token in added):
        raise MalformedError(f"{name}: added_tokens must be objects whose content is a string")
    for token in added:
        if not re.fullmatch("[!-~]+", token["content"]) or any(
            token.get(rule) for rule in ("single_word", "lstrip", "rstrip")
        ):
            raise UnsupportedError(
                f"{name}: added tokens must be printable ASCII without spaces that match anywhere,"
                f" {shown(token['content'])} is not"
            )
    if not any(token["content"] == END_OF_TEXT for token in added):
        raise UnsupportedError(f"{name}: must have {END_OF_TEXT} among its added tokens, it has none")
    return added


def gguf_vocabulary(tokenizer: TrainingTokenizer) -> dict[str, Any]:
    """The tokenizer's keys of a GGUF file, as plain strings, numbers and lists."""
    merges = json.loads(tokenizer.json_text)["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PRE_TOKENIZER,
        "tokenizer.ggml.tokens": tokenizer.tokens,
        "tokenizer.ggml.token_type": [int(kind) for kind in tokenizer.types()],
        # Older files write a merge as one string.
        "tokenizer.ggml.merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": tokenizer.end_id,
        "tokenizer.ggml.eos_token_id": tokenizer.end_id,
        "tokenizer.ggml.add_bos_token": True,
    }
