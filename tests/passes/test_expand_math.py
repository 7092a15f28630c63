"""ck-expand-math is as exact as ck/passes/polynomials.py says, in scalars and vectors, on odd values too."""

import ctypes
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp

from ck.ir.rt.evaluate_loops import run_function
from tests.backend.compile import compile_c, expand, parse

N = 1 << 16
INF, NAN = float("inf"), float("nan")
TINY = float(np.finfo(np.float32).tiny)
RUNTIME = Path(__file__).parents[2] / "runtime_c"

VECTOR = """
func.func @f(%x: memref<{n}x16xf32>, %y: memref<{n}x16xf32>, %begin: index, %end: index) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %t = %begin to %end step %c1 {{
    %v = vector.load %x[%t, %c0] : memref<{n}x16xf32>, vector<16xf32>
    %r = math.{name} %v : vector<16xf32>
    vector.store %r, %y[%t, %c0] : memref<{n}x16xf32>, vector<16xf32>
  }}
  func.return
}}
"""
SCALAR = """
func.func @f(%x: memref<{n}xf32>, %y: memref<{n}xf32>, %begin: index, %end: index) {{
  %c1 = arith.constant 1 : index
  scf.for %t = %begin to %end step %c1 {{
    %v = memref.load %x[%t] : memref<{n}xf32>
    %r = math.{name} %v : f32
    memref.store %r, %y[%t] : memref<{n}xf32>
  }}
  func.return
}}
"""


@cache
def function(template: str, name: str, n: int) -> FuncOp:
    module = expand(parse(template.format(name=name, n=n)))
    assert f"math.{name} " not in str(module)
    return next(op for op in module.body.block.ops if isinstance(op, FuncOp))


def evaluate(name: str, x: np.ndarray) -> np.ndarray:
    """The expanded function, as vectors of 16; the same bits as one at a time."""
    x = x.astype(np.float32)
    rows = np.resize(x, (-(-len(x) // 16), 16)).copy()
    y = np.zeros_like(rows)
    run_function(function(VECTOR, name, len(rows)), [rows, y, 0, len(rows)])
    flat, scalars = rows.reshape(-1), np.zeros(rows.size, np.float32)
    run_function(function(SCALAR, name, len(flat)), [flat, scalars, 0, len(flat)])
    np.testing.assert_array_equal(scalars.view(np.int32), y.reshape(-1).view(np.int32))
    return scalars[: len(x)]


def ulps(got: np.ndarray, exact: np.ndarray) -> float:
    """The largest error in units of the last place of the exact value, of the smallest normal at least."""
    unit = np.spacing(np.maximum(np.abs(exact), TINY).astype(np.float32)).astype(np.float64)
    return float((np.abs(got.astype(np.float64) - exact) / unit).max())


def line(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, N).astype(np.float32)


def magnitudes(low: float, high: float) -> np.ndarray:
    x = np.geomspace(low, high, N // 2).astype(np.float32)
    return np.concatenate([x, -x])


def reference(name: str, x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    if name == "erf":
        return np.array([math.erf(value) for value in x])
    return 1 / np.sqrt(x) if name == "rsqrt" else getattr(np, name)(x)


@pytest.mark.parametrize(
    ("name", "x", "bound"),
    [
        ("exp", line(-87.3365, 88.7228), 1),
        ("exp", magnitudes(1e-30, 1.0), 1),
        ("tanh", line(-12.0, 12.0), 1.5),
        ("tanh", magnitudes(1e-18, 1.0), 1.5),
        ("erf", line(-5.0, 5.0), 2.5),
        ("erf", magnitudes(1e-18, 1.0), 2.5),
        ("log", np.abs(magnitudes(1e-38, 1e38)), 1),
        ("log", line(0.5, 2.0), 1),
        ("log", np.abs(magnitudes(1e-44, 1e-38)), 1),
        ("rsqrt", np.abs(magnitudes(1e-38, 1e38)), 1.5),
    ],
)
def test_errors_in_units_of_the_last_place(name: str, x: np.ndarray, bound: float, measured) -> None:
    error = ulps(evaluate(name, x), reference(name, x))
    measured(f"{name} on [{x.min():g}, {x.max():g}]: {error:.2f} ulp of {bound}")
    assert error <= bound


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize("limit", [1.0, 100.0, 1e4, 1e5])
def test_sine_and_cosine_hold_to_1e5(name: str, limit: float, measured) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-limit, limit, N), np.arange(-limit, limit + 1, limit / 1000)])
    x = x.astype(np.float32)
    error = np.abs(evaluate(name, x) - reference(name, x)).max()
    measured(f"{name} for |x| <= {limit:g}: {error:.2e} of 1e-07")
    assert error <= 1e-7


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [INF, -INF, 0.0, -0.0, 89.5, 88.72284, -87.34], [INF, 0.0, 1.0, 1.0, INF, INF, 0.0]),
        ("tanh", [INF, -INF, 0.0, -0.0, 1e-42, 3e38], [1.0, -1.0, 0.0, -0.0, 1e-42, 1.0]),
        ("erf", [INF, -INF, 0.0, -0.0, -7.0], [1.0, -1.0, 0.0, -0.0, -1.0]),
        ("log", [INF, -INF, 0.0, -0.0, -1.0, 1.0], [INF, NAN, -INF, -INF, NAN, 0.0]),
        ("sin", [INF, -INF, 0.0], [NAN, NAN, 0.0]),
        ("cos", [INF, -INF, 0.0], [NAN, NAN, 1.0]),
        ("rsqrt", [INF, 0.0, -0.0, -1.0, 4.0], [0.0, INF, -INF, NAN, 0.5]),
    ],
)
def test_odd_values(name: str, x: list[float], expected: list[float]) -> None:
    got = evaluate(name, np.array([*x, NAN, -NAN]))
    exact = np.array([*expected, NAN, NAN], np.float32)
    np.testing.assert_array_equal(got, exact)
    numbers = ~np.isnan(exact)
    np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(exact)[numbers])


def test_exp_equals_the_runtimes(tmp_path: Path) -> None:
    """The kernels' ck_exp and the generated exp are one function: bits at all scales and at the limits."""
    source = f"""
#include "{RUNTIME}/ck_math.h"
void f(const float *x, float *y, int64_t n) {{ for (int64_t i = 0; i < n; ++i) y[i] = ck_exp(x[i]); }}
"""
    library = compile_c(source, tmp_path)
    limits = [np.float32(limit).view(np.int32) + np.arange(-300, 300) for limit in (88.72283, -87.33654)]
    x = np.concatenate(
        [line(-110.0, 110.0), magnitudes(1e-42, 1e38), np.float32([0, np.inf, -np.inf, np.nan])]
    )
    x = np.concatenate([x, *(bits.astype(np.int32).view(np.float32) for bits in limits)])
    y = np.zeros_like(x)
    library.f(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), ctypes.c_int64(len(x)))
    got = evaluate("exp", x)
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(np.signbit(got)[~np.isnan(y)], np.signbit(y)[~np.isnan(y)])
