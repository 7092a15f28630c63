"""What shapes a program is refused by name and value, before a model is opened."""

import re
from typing import Any

import pytest

import ck
from ck.errors import UsageError

REFUSED: list[tuple[str, Any, str]] = [
    ("activations", "q4", "one of q16, q8 is required, found q4"),
    ("activations", "Q8", "one of q16, q8 is required, found Q8"),
    ("activations", "", "one of q16, q8 is required, found "),
    ("activations", None, "one of q16, q8 is required, found None"),
    ("activations", ["q8"], "one of q16, q8 is required, found ['q8']"),
    ("kv", "q8_0", "one of f16, f32 is required, found q8_0"),
    ("dtype", "f16", "f32 or None is required, found f16"),
    ("chunk", 0, "1 row at least is required, found 0"),
]


@pytest.mark.parametrize(("name", "given", "words"), REFUSED)
def test_a_value_that_is_none_is_refused(name: str, given: Any, words: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(f'{name}: {words}')}$"):
        ck.compile("no-such.gguf", **{name: given})
