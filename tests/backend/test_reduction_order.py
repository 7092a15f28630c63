"""The order of a reduction is written in the IR: C and LLVM for three machines and numpy give equal bits.

Sum, softmax, RMSNorm and exp go from one IR to C, compiled by the system's compiler, and to LLVM IR, compiled
by llvmlite, each for this machine, for AVX2 and for plain x86-64; and to the numpy interpreter.
"""

import ctypes
from functools import cache

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp

from ck.backend.c.text import emit_module
from ck.backend.llvm.text import emit_module as emit_llvm
from ck.ir.rt.evaluate_loops import run_function
from tests.backend.compile import FLAGS, LlvmLibrary, assert_bits, compile_c, compile_llvm, expand, parse
from tests.backend.row_kernels import COLUMNS, KERNELS, ROWS

BEGIN, END = 1, ROWS - 1


@cache
def module():
    return expand(parse("\n".join(make(columns) for make in KERNELS.values() for columns in COLUMNS)))


@cache
def functions() -> dict[str, FuncOp]:
    return {op.sym_name.data: op for op in module().body.block.ops if isinstance(op, FuncOp)}


@pytest.fixture(scope="session", params=FLAGS)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C of all kernels, compiled for one machine."""
    return compile_c(emit_module(module()), tmp_path_factory.mktemp("kernels"), request.param)


@pytest.fixture(scope="session", params=FLAGS)
def llvm_library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LlvmLibrary:
    """The same of LLVM IR."""
    return compile_llvm(emit_llvm(module()), tmp_path_factory.mktemp("kernels"), request.param)


def inputs(columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of several magnitudes, one with a NaN, one with infinities; and a weight."""
    rng = np.random.default_rng(columns)
    x = rng.standard_normal((ROWS, columns), dtype=np.float32)
    x[2] *= np.float32(30)
    x[3] *= np.float32(1e-30)
    x[4] += np.float32(1000)
    x[5, columns // 2] = np.nan
    x[6, 0], x[6, -1] = -np.inf, -np.inf
    return x, rng.standard_normal(columns, dtype=np.float32)


def buffers(kernel: str, columns: int) -> list[np.ndarray]:
    x, w = inputs(columns)
    y = np.full_like(x, -7)
    return [x, w, y] if kernel == "rms_norm" else [x, y]


def arguments(arrays: list[np.ndarray]) -> list[ctypes.c_void_p | ctypes.c_int64]:
    return [*(ctypes.c_void_p(a.ctypes.data) for a in arrays), ctypes.c_int64(BEGIN), ctypes.c_int64(END)]


@cache
def by_numpy(kernel: str, columns: int) -> np.ndarray:
    arrays = buffers(kernel, columns)
    run_function(functions()[f"{kernel}_{columns}"], [*arrays, BEGIN, END])
    return arrays[-1]


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_c_equals_numpy(kernel: str, columns: int, library: ctypes.CDLL) -> None:
    arrays = buffers(kernel, columns)
    getattr(library, f"{kernel}_{columns}")(*arguments(arrays))
    assert_bits(arrays[-1], by_numpy(kernel, columns))


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_llvm_equals_numpy(kernel: str, columns: int, llvm_library: LlvmLibrary) -> None:
    arrays = buffers(kernel, columns)
    getattr(llvm_library, f"{kernel}_{columns}")(*arguments(arrays))
    assert_bits(arrays[-1], by_numpy(kernel, columns))


def reference(kernel: str, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    if kernel == "sum_rows":
        return np.broadcast_to(x.sum(-1, keepdims=True), x.shape)
    if kernel == "exp_rows":
        return np.exp(x)
    if kernel == "rms_norm":
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + float(np.float32(1e-5))) * w
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def roundings(kernel: str, x: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """An error bound in units of 2^-23: a few roundings of the result, and those that the kernel
    magnifies."""
    if kernel == "sum_rows":
        return 8 * np.abs(x).sum(-1, keepdims=True)
    if kernel == "softmax":
        return (16 + x.max(-1, keepdims=True) - x) * expected
    return 16 * np.abs(expected)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernel_computes_what_it_says(kernel: str, columns: int) -> None:
    x, w = inputs(columns)
    got = by_numpy(kernel, columns)
    with np.errstate(all="ignore"):
        expected = reference(kernel, x.astype(np.float64), w.astype(np.float64))
    rows = [1, 2, 3, 4, 7]  # the finite ones
    bound = 2.0**-23 * roundings(kernel, x[rows].astype(np.float64), expected[rows]) + 2.0**-126
    if kernel == "exp_rows":
        bound = np.where(expected[rows] > np.finfo(np.float32).max, np.inf, bound)
        got = np.where(np.isinf(got), np.finfo(np.float32).max, got)
    assert (np.abs(got[rows] - expected[rows]) <= bound).all()
    assert np.isnan(got[5]).any()
    assert (got[[0, ROWS - 1]] == -7).all(), "rows outside [begin, end) were written"
