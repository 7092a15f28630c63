"""Blocks that `quantize_rows` makes: their error, and what they must hold exactly.

That their bytes are llama.cpp's is tests/cli/test_quantize.py's part, where whole files are compared.
"""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize, quantize

from ck.dtypes import BY_NAME
from ck.errors import UnsupportedError
from ck.frontend.quantize import quantize_rows
from tests.train import quantized

# The root of the mean squared error as a part of that of numbers, of the kind that `numbers` gives.
ERRORS = {
    "q8_0": 0.0052, "q6_k": 0.0175, "q5_k": 0.037, "q5_1": 0.04, "q5_0": 0.039, "q4_k": 0.072, "q4_1": 0.084,
    "q4_0": 0.079, "iq4_nl": 0.071, "iq4_xs": 0.071, "q3_k": 0.138, "q2_k": 0.356,
}  # fmt: skip
TYPES = list(ERRORS)


def numbers() -> np.ndarray:
    """Rows [24, 512]."""
    return quantized.numbers(24 * 512, 7).reshape(24, 512)


def values(blocks: np.ndarray, name: str) -> np.ndarray:
    """What blocks stand for, by the gguf package."""
    return dequantize(blocks, GGMLQuantizationType(BY_NAME[name].ggml_id))


def error(blocks: np.ndarray, name: str, weights: np.ndarray | float = 1.0) -> float:
    """The weighted squared error."""
    return float((weights * (values(blocks, name) - numbers()) ** 2).sum())


@pytest.mark.parametrize("name", TYPES)
def test_errors_are_those_of_the_bits(name: str) -> None:
    found = np.sqrt(error(quantize_rows(numbers(), BY_NAME[name]), name) / (numbers() ** 2).sum())
    assert found == pytest.approx(ERRORS[name], rel=0.05)


@pytest.mark.parametrize("name", TYPES)
def test_columns_that_weigh_more_have_smaller_errors(name: str) -> None:
    weights = np.abs(quantized.numbers(512, 8)) ** 2
    weights[::16] = 4
    plain, weighted = (quantize_rows(numbers(), BY_NAME[name], given) for given in (None, weights))
    if name == "q8_0":
        assert np.array_equal(plain, weighted)
        return
    assert error(weighted, name, weights) < 0.8 * error(plain, name, weights)


@pytest.mark.parametrize("weights", [None, np.full(256, 3, np.float32)])
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.filterwarnings("error")
def test_zeros_are_exact_and_tiny_numbers_stay_finite(name: str, weights: np.ndarray | None) -> None:
    rows = np.zeros((4, 256), np.float32)
    rows[1], rows[2, 0], rows[3] = 1e-30, -1e-38, np.linspace(-1e-41, 1e-41, 256)
    found = values(quantize_rows(rows, BY_NAME[name], weights), name)
    assert np.array_equal(found[0], rows[0])
    assert np.abs(found).max() <= 1e-6


@pytest.mark.parametrize("name", TYPES)
def test_rows_are_quantised_each_by_itself(name: str) -> None:
    weights = np.abs(quantized.numbers(512, 9))
    whole = quantize_rows(numbers(), BY_NAME[name], weights)
    assert np.array_equal(whole[7:9], quantize_rows(numbers()[7:9], BY_NAME[name], weights))


@pytest.mark.parametrize("name", ["f32", "f16", "bf16"])
def test_floats_are_the_nearest(name: str) -> None:
    rows = np.concatenate([numbers(), numbers() * np.float32(1e-6), numbers() * np.float32(6e4)])
    found = quantize_rows(rows, BY_NAME[name])
    assert np.array_equal(found, quantize(rows, GGMLQuantizationType(BY_NAME[name].ggml_id)).view(np.uint8))


def test_importance_beyond_the_range_is_named() -> None:
    rows, importance = np.ones((2, 32), np.float32), np.full(32, 3e38, np.float32)
    with pytest.raises(UnsupportedError, match=r"found 1 with importance up to 3e\+38; choose bf16"):
        quantize_rows(rows, BY_NAME["q4_0"], importance)
