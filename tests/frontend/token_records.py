"""llama.cpp's token ids of tests/data/token_texts.json, which benchmarks/peers/check_tokenizers.py wrote."""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"
RECORD = DATA / "token_ids.json"
# Whose vocabulary the pre-tokenizers are tried with.
PRE_MODEL = "smollm2-135m"
# llama.cpp's patterns have letters and marks for upper and lower case, where those of the families' own
# tokenizer.json, which ck follows, have the cases themselves: texts with marks are cut otherwise.
APPROXIMATED = frozenset({"tekken", "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"})
# A word of some vocabularies, for markup, which llama.cpp makes a control token by its text alone; ck goes by
# the type that the file gives it, as transformers does.
MARKUP = "</s>"


@cache
def texts() -> list[str]:
    """All texts, in order."""
    groups: dict[str, list[str]] = json.loads((DATA / "token_texts.json").read_text("utf-8"))
    return [text for group in groups.values() for text in group]


def compared(pre: str) -> list[int]:
    """Which texts llama.cpp and ck are to cut alike under the pre-tokenizer `pre`."""
    return [n for n, text in enumerate(texts()) if pre not in APPROXIMATED or not _has_marks(text)]


def digest(ids: Iterable[Sequence[int]]) -> str:
    """SHA-256, in hex, of a list of ids a text."""
    return hashlib.sha256("\n".join(" ".join(map(str, text)) for text in ids).encode()).hexdigest()


def read_record() -> dict[str, Any]:
    """What was recorded: source, texts_sha256, models (plain, special by text where it differs), pre."""
    return json.loads(RECORD.read_text("utf-8"))


def texts_sha256() -> str:
    """Of the file of texts: a record of others is of no use."""
    return hashlib.sha256((DATA / "token_texts.json").read_bytes()).hexdigest()


def _has_marks(text: str) -> bool:
    return any(unicodedata.category(char).startswith("M") for char in text)
