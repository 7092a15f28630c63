"""Fixtures that more than one folder of tests uses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import cut_model, model_path


@pytest.fixture(scope="session")
def cut(pytestconfig: pytest.Config) -> Callable[..., Path]:
    """`cut(name, n_layers=2, n_vocab=None)`: a cut of a demo model, kept in pytest's cache between runs."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("ck-models")

    def make(name: str, n_layers: int = 2, n_vocab: int | None = None) -> Path:
        return cut_model(model_path(name), folder, n_layers, n_vocab)

    return make
