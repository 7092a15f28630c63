"""Logits depend on weights, tokens and instruction-set path alone: equal bits however the text was fed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import MODELS, PATTERN_LAYERS

ROOT = Path(__file__).parents[2]
VARIANTS = Path(__file__).with_name("variants.py")
N_VOCAB = 4096
# What CK_ISA_MASK leaves; the last takes what the machine has.
PATHS = ("scalar", "scalar,avx2", "scalar,avx2,avx512bw", "")
# Round Gemma's window of 512, and its ring of window + chunk, and no multiple of anything the kernels use.
LENGTH = 1091
FEEDS = (
    "1:512", "1:1", "2:1", "1:7", "2:7", "1:64", "2:64",
    "1:decode", "2:decode", "1:cached", "2:cached", "1:chunk-64", "2:chunk-64",
)  # fmt: skip
SHORT = ("2:512:1", "1:512:63", "2:64:64", "2:512:65", "1:512:513", "2:decode:65", "1:cached:513")
# The portable path is slow: one way of each kind, the chunks of 64 with a ring that turns over at 576.
FEEDS_SCALAR, LENGTH_SCALAR = ("1:7", "2:cached", "1:chunk-64"), 581


def digests(path: Path, mask: str, ways: list[str]) -> dict[str, list[str]]:
    """Digests of the rows by way of feeding, from a process whose paths are limited to `mask`."""
    env = {key: value for key, value in os.environ.items() if key != "CK_ISA_MASK"}
    env |= {"PYTHONPATH": str(ROOT)} | ({"CK_ISA_MASK": mask} if mask else {})
    command = [sys.executable, str(VARIANTS), str(path), *ways]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mask", PATHS, ids=lambda mask: mask or "all")
@pytest.mark.parametrize("name", MODELS)
def test_logits_do_not_depend_on_how_a_text_is_fed(name: str, mask: str, cut: Callable[..., Path]) -> None:
    feeds, length, short = (FEEDS, LENGTH, SHORT) if mask != "scalar" else (FEEDS_SCALAR, LENGTH_SCALAR, ())
    first = f"2:512:{length}"
    ways = [first, *(f"{feed}:{length}" for feed in feeds), *short]
    results = digests(cut(name, PATTERN_LAYERS[name], N_VOCAB), mask, ways)
    want = results[first]
    assert len(set(want)) == length
    for way in ways[1:]:
        rows = results[way]
        assert len(rows) == int(way.split(":")[2])
        differ = [row for row, digest in enumerate(rows) if digest != want[row]]
        assert not differ, f"{way} differs from {first} first at row {differ[0]}, at {len(differ)} rows"
