"""The gradients of every family against PyTorch's, every tensor, for few rows and many, by both backends."""

from collections.abc import Callable

import pytest

from ck.backend.backends import BACKENDS
from ck.frontend.architectures.templates import TEMPLATES
from ck.regression.gradients import Gradients
from ck.regression.models import model_of, random_weights

pytestmark = pytest.mark.oracle

# Around a block of rows, and several blocks.
LENGTHS = (1, 63, 64, 65, 300)
# As few layers as have one of every kind.
LAYERS = 4
WINDOW = {"sliding_window": 37, "window_pattern": 2}


@pytest.mark.parametrize(("name", "more"), [*((name, {}) for name in TEMPLATES), ("qwen2", WINDOW)])
def test_gradients_are_pytorchs(name: str, more: dict[str, int], measured: Callable[[str], None]) -> None:
    model = model_of(name, "odd", layers=LAYERS, **more)
    both = Gradients(model, random_weights(model), max(LENGTHS), BACKENDS)
    for check in both.compare(LENGTHS):
        assert check.passed, check.figures
        # With the length 1: what has no gradient there has one too small to see.
        assert check.name == "tensors" or check.figures[-1].name == "of all, where PyTorch has 0"
        measured(f"{name}: {', '.join(f'{each.name} {each.value:.1e}' for each in check.figures)}")
