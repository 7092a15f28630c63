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
# No multiple of anything the kernels use. The short one goes past Gemma's window of 512, and round the ring
# of window + chunk of a program with chunks of 64; the long one round the ring of chunks of 512.
SHORT, LONG = 581, 1091
FEEDS = (
    "2:512", "1:512", "1:1", "2:1", "1:7", "2:7", "1:64", "2:64",
    "1:decode", "2:decode", "1:cached", "2:cached", "1:chunk-64", "2:chunk-64",
)  # fmt: skip
LENGTHS = ["2:512:1", "1:512:63", "2:64:64", "2:512:65", "1:512:513", "2:decode:65", "1:cached:513"]
WAYS = [f"{feed}:{LONG}" for feed in FEEDS] + LENGTHS
# Paths that this machine does not take by itself: token by token, what goes round the short ring.
SLOW = {"2:1", "1:decode"}
WAYS_MASKED = [f"{feed}:{SHORT if feed in SLOW else LONG}" for feed in FEEDS] + LENGTHS
# The portable path is slow: the whole text three times, the other ways on its beginning.
WAYS_SCALAR = [
    f"2:512:{SHORT}", f"1:chunk-64:{SHORT}", "1:512:513", "1:1:64", "2:1:65", "1:7:65", "2:7:64", "1:64:65",
    "2:64:130", "1:decode:64", "2:decode:65", "1:cached:130", "2:cached:130", "1:512:63", "2:512:1",
]  # fmt: skip


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
    first, *others = WAYS_SCALAR if mask == "scalar" else WAYS_MASKED if mask else WAYS
    results = digests(cut(name, PATTERN_LAYERS[name], N_VOCAB), mask, [first, *others])
    want = results[first]
    assert len(set(want)) == len(want) == int(first.split(":")[2])
    for way in others:
        rows = results[way]
        assert len(rows) == int(way.split(":")[2])
        differ = [row for row, digest in enumerate(rows) if digest != want[row]]
        assert not differ, f"{way} differs from {first} first at row {differ[0]}, at {len(differ)} rows"
