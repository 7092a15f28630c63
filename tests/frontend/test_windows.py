"""Which layers have a window, as a GGUF file says it, and what is wrong with files that cannot be read."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ck.errors import CkError, MalformedError, UnsupportedError
from ck.frontend.model import open_model
from ck.frontend.window_pattern import window_pattern
from tests.frontend.make_gguf import write_tiny
from tests.frontend.random_models import small
from tests.frontend.raw_gguf import parse, u32, u64

ARRAY, U32, BOOL = 9, 4, 7
KEY = "llama.attention.sliding_window"
Write = Callable[[int | None, int | Sequence[bool] | None], Path]


@pytest.mark.parametrize("kinds", list(product((False, True), repeat=5)))
def test_two_numbers_give_the_layers_back_or_there_are_none(kinds: tuple[bool, ...]) -> None:
    found = window_pattern(kinds)
    hp = replace(small("llama", n_layers=5), sliding_window=1)
    two_numbers = [(pattern, 0) for pattern in range(7)] + [(0, first) for first in range(6)]
    in_reach = {
        tuple(made.is_local(layer) for layer in range(5))
        for pattern, first in two_numbers
        for made in [replace(hp, window_pattern=pattern, window_first=first)]
    }
    assert (found is not None) == (kinds in in_reach)
    if found is not None:
        hp = small("llama", n_layers=5).with_window(8, *found)
        assert tuple(hp.is_local(layer) for layer in range(5)) == kinds
        # No layer with one is no window at all.
        assert hp.sliding_window == (8 if True in kinds else 0)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(window, pattern)`: a model of two layers whose header has these keys."""

    def made(window: int | None, pattern: int | Sequence[bool] | None) -> Path:
        path = write_tiny(tmp_path / "model.gguf")
        raw = parse(path.read_bytes())
        if window is not None:
            raw.set(KEY, U32, u32(window))
        if isinstance(pattern, int):
            raw.set(f"{KEY}_pattern", U32, u32(pattern))
        elif pattern is not None:
            raw.set(f"{KEY}_pattern", ARRAY, u32(BOOL) + u64(len(pattern)) + bytes(pattern))
        path.write_bytes(raw.pack())
        return path

    return made


@pytest.mark.parametrize(
    ("window", "pattern", "windows"),
    [
        (None, None, [0, 0]),
        (0, None, [0, 0]),
        # Nothing but the window: every layer has it.
        (7, None, [7, 7]),
        (7, 0, [7, 7]),
        (7, 2, [7, 0]),
        (7, 1, [0, 0]),
        (7, [False, True], [0, 7]),
        (7, [True, False], [7, 0]),
        (7, [False, False], [0, 0]),
    ],
)
def test_a_header_says_which_layers(write: Write, window: Any, pattern: Any, windows: list[int]) -> None:
    hp = open_model(write(window, pattern)).hp
    assert [hp.layer_window(layer) for layer in range(2)] == windows
    assert not any(hp.turns_apart(layer) for layer in range(2))


@pytest.mark.parametrize(
    ("window", "pattern", "kind", "words"),
    [
        (1 << 30, None, MalformedError, f"key {KEY} must be from 0 to 16777216, found 1073741824"),
        (7, 5000, MalformedError, f"key {KEY}_pattern must be from 0 to 1024, found 5000"),
        (7, [True], MalformedError, f"key {KEY}_pattern must list 2 layers, found 1"),
    ],
)
def test_a_header_that_says_nothing(
    write: Write, window: int, pattern: Any, kind: type[CkError], words: str
) -> None:
    with pytest.raises(kind, match=f"{words}$"):
        open_model(write(window, pattern))


def test_layers_that_ck_has_no_numbers_for(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "model.gguf")
    raw = parse(path.read_bytes())
    raw.set("llama.block_count", U32, u32(4))
    raw.set(KEY, U32, u32(7))
    raw.set(f"{KEY}_pattern", ARRAY, u32(BOOL) + u64(4) + bytes([0, 1, 0, 1]))
    path.write_bytes(raw.pack())
    wanted = "a window in every layer from one on, or in all but every n-th, found others"
    with pytest.raises(UnsupportedError, match=f"key {KEY}_pattern must have {wanted}$"):
        open_model(path)
