"""The reference of each demo model, computed once per process and kept in pytest's cache between runs."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.oracle.reference import Reference, reference


@pytest.fixture(scope="session")
def refer(pytestconfig: pytest.Config) -> Callable[[Path], Reference]:
    """`refer(path)`: transformers' logits and greedy ids for the GGUF at `path`."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("ck-reference")
    return cache(lambda path: reference(path, folder))
