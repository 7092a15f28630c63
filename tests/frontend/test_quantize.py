"""K types as llama.cpp makes them: its bytes for 64 blocks are in tests/data, recorded from ggml's own code.

Ties between roundings go the other way now and then, because sums here have another order; what is held is
the share of equal bytes and, by the gguf package's dequantisation, the error.
"""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize

from ck.dtypes import BY_NAME
from ck.frontend.quantize import quantize_rows

DATA = Path(__file__).parents[1] / "data" / "k_types.npz"
ROWS, WIDTH = 16, 1024


def numbers() -> np.ndarray:
    """Rows of several sizes, with a part of zeros, one of equal numbers, and rows of one sign."""
    at = np.arange(ROWS * WIDTH, dtype=np.float64)
    rows = (np.sin(at * 12.9898) * np.cos(at * at % 78.233) ** 3).reshape(ROWS, WIDTH)
    rows *= 2.0 ** np.arange(-8, 8)[:, None]
    rows[3, :300], rows[4, 256:512] = 0, 0.5
    rows[5], rows[6] = np.abs(rows[5]), -np.abs(rows[6])
    return rows.astype(np.float32)


def error(blocks: np.ndarray, name: str) -> float:
    """The squared error of blocks, each row's part of its own squares."""
    rows, want = dequantize(blocks, GGMLQuantizationType(BY_NAME[name].ggml_id)), numbers()
    return float((((rows - want) ** 2).sum(1) / (want**2).sum(1)).sum())


@pytest.mark.parametrize("name", ["q4_k", "q6_k"])
def test_blocks_are_llama_cpps(name: str) -> None:
    recorded = np.load(DATA)[name]
    found = quantize_rows(numbers(), BY_NAME[name])
    assert found.shape == recorded.shape
    assert (found == recorded).mean() > 0.98
    assert error(found, name) <= 1.001 * error(recorded, name)


@pytest.mark.parametrize("name", ["q4_k", "q6_k"])
@pytest.mark.filterwarnings("error")
def test_zeros_are_exact_and_tiny_numbers_stay_finite(name: str) -> None:
    rows = np.zeros((3, 256), np.float32)
    rows[1], rows[2, 0] = 1e-30, -1e-38
    found = dequantize(quantize_rows(rows, BY_NAME[name]), GGMLQuantizationType(BY_NAME[name].ggml_id))
    assert np.array_equal(found[0], rows[0])
    assert np.abs(found).max() <= 1e-6


def test_rows_are_quantised_each_by_itself() -> None:
    whole = quantize_rows(numbers(), BY_NAME["q4_k"])
    assert np.array_equal(whole[7:9], quantize_rows(numbers()[7:9], BY_NAME["q4_k"]))
