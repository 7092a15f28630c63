"""The C emitter: what it writes, that stored IR gives the same text, that odd constructs compute the same."""

import ctypes

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp

from ck.backend.c.text import emit_module
from ck.backend.names import Names
from ck.errors import InternalError
from ck.ir.ops import OPS
from ck.ir.rt.evaluate_loops import run_function
from tests.backend.compile import SOURCES, compile_c, expand, parse
from tests.backend.row_kernels import COLUMNS, KERNELS

HEAD = """#include <stdint.h>
typedef float f32x16 __attribute__((vector_size(64)));
typedef float f32x16_u __attribute__((vector_size(64), aligned(4), may_alias));

"""

SCALED = """
func.func @scaled(%x: memref<4x40xf32>, %gate.w: memref<40xf32>, %y: memref<4x40xf32> {ck.restrict},
                  %begin: index, %end: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %third = arith.constant 0.333333343 : f32
  %zero = arith.constant 0.0 : f32
  %thirds = vector.broadcast %third : f32 to vector<16xf32>
  %zeros = vector.broadcast %zero : f32 to vector<16xf32>
  %mask = vector.create_mask %c8 : vector<16xi1>
  scf.for %t = %begin to %end step %c1 {
    scf.for %i = %c0 to %c32 step %c16 {
      %a = vector.load %x[%t, %i] : memref<4x40xf32>, vector<16xf32>
      %w = vector.load %gate.w[%i] : memref<40xf32>, vector<16xf32>
      %s = arith.addf %a, %w : vector<16xf32>
      %p = arith.mulf %thirds, %s : vector<16xf32>
      vector.store %p, %y[%t, %i] : memref<4x40xf32>, vector<16xf32>
    }
    %a = vector.maskedload %x[%t, %c32], %mask, %zeros
      : memref<4x40xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
    %p = arith.mulf %a, %thirds : vector<16xf32>
    vector.maskedstore %y[%t, %c32], %mask, %p : memref<4x40xf32>, vector<16xi1>, vector<16xf32>
  }
  func.return
}
"""

HEADER = (
    "void scaled(const float (*x)[40], const float *gate_w, float (*restrict y)[40], "
    "int64_t begin, int64_t end)"
)
SCALED_C = """ {
    for (int64_t t = begin; t < end; ++t) {
        for (int64_t i = 0; i < 32; i += 16) {
            f32x16 p = 0x1.555556p-2f * (*(const f32x16_u *)&x[t][i] + *(const f32x16_u *)&gate_w[i]);
            *(f32x16_u *)&y[t][i] = p;
        }
        f32x16 a = {0};
        __builtin_memcpy(&a, &x[t][32], 8 * sizeof(float));
        f32x16 p = a * 0x1.555556p-2f;
        __builtin_memcpy(&y[t][32], &p, 8 * sizeof(float));
    }
}
"""


def test_text_reads_as_written() -> None:
    text = emit_module(parse(SCALED))
    assert text == HEAD + HEADER + SCALED_C


@pytest.mark.parametrize("kernel", KERNELS)
def test_printed_and_parsed_ir_gives_the_same_text(kernel: str) -> None:
    module = expand(parse("\n".join(KERNELS[kernel](columns) for columns in COLUMNS)))
    assert emit_module(parse(str(module))) == emit_module(module)


def test_hints_that_clash_are_told_apart() -> None:
    text = emit_module(
        parse("""
    func.func @f(%float: memref<4xf32>, %a.b: memref<4xf32>, %a_b: memref<4xf32>, %f: memref<4xf32>) {
      %c0 = arith.constant 0 : index
      %a = memref.load %float[%c0] : memref<4xf32>
      memref.store %a, %a.b[%c0] : memref<4xf32>
      memref.store %a, %a_b[%c0] : memref<4xf32>
      memref.store %a, %f[%c0] : memref<4xf32>
      func.return
    }""")
    )
    assert "void f(const float *v_float, float *a_b, float *a_b_1, float *f_1) {" in text


def test_a_name_is_free_again_outside_its_scope() -> None:
    names = Names(["i"])
    assert [names.fresh("i") for _ in range(2)] == ["i_1", "i_2"]
    names.push()
    assert [names.fresh("i"), names.fresh("i_3"), names.fresh("i")] == ["i_3", "i_3_1", "i_4"]
    names.pop()
    assert names.fresh("i") == "i_3"


# A loop that swaps what it carries, a branch, comparisons with NaN, integers that wrap, shuffles, a buffer.
ODDITIES = """
func.func @odd(%x: memref<8x32xf32>, %k: memref<8xi32>, %y: memref<8x32xf32>, %j: memref<8x8xi32>,
               %begin: index, %end: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c3 = arith.constant 3 : index
  %c4 = arith.constant 4 : index
  %c16 = arith.constant 16 : index
  %big = arith.constant 2147483647 : i32
  %three = arith.constant 3 : i32
  %one = arith.constant 1.0 : f32
  %minus = arith.constant -0.0 : f32
  %flat = vector.broadcast %minus : f32 to vector<16xf32>
  %yes = arith.cmpi slt, %c1, %c2 : index
  scf.for %t = %begin to %end step %c1 {
    %row = memref.alloca() : memref<32xf32>
    %a = vector.load %x[%t, %c0] : memref<8x32xf32>, vector<16xf32>
    %b = vector.load %x[%t, %c16] : memref<8x32xf32>, vector<16xf32>
    %p, %q = scf.for %i = %c0 to %c3 step %c1 iter_args(%u = %a, %v = %b)
        -> (vector<16xf32>, vector<16xf32>) {
      %s = arith.addf %u, %v : vector<16xf32>
      scf.yield %v, %s : vector<16xf32>, vector<16xf32>
    }
    %blend = vector.shuffle %p, %flat [0, 1, 2, 3, 4, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]
      : vector<16xf32>, vector<16xf32>
    vector.store %blend, %row[%c0] : memref<32xf32>, vector<16xf32>
    %turn = vector.shuffle %q, %q [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2]
      : vector<16xf32>, vector<16xf32>
    vector.store %turn, %row[%c16] : memref<32xf32>, vector<16xf32>
    %a2 = vector.load %row[%c0] : memref<32xf32>, vector<16xf32>
    %b2 = vector.load %row[%c16] : memref<32xf32>, vector<16xf32>
    %top = arith.maximumf %a2, %b2 : vector<16xf32>
    %root = math.sqrt %top : vector<16xf32>
    %least = arith.minimumf %root, %b2 : vector<16xf32>
    vector.store %least, %y[%t, %c0] : memref<8x32xf32>, vector<16xf32>
    vector.store %flat, %y[%t, %c16] : memref<8x32xf32>, vector<16xf32>
    %e = vector.extract %a[5] : f32 from vector<16xf32>
    %g = vector.extract %b[7] : f32 from vector<16xf32>
    %lt = arith.cmpf olt, %e, %g : f32
    %ult = arith.cmpf ult, %e, %g : f32
    %une = arith.cmpf une, %e, %g : f32
    %ord = arith.cmpf ord, %e, %g : f32
    %l = arith.extui %lt : i1 to i32
    %m = arith.extui %ult : i1 to i32
    %n = arith.extui %une : i1 to i32
    %o = arith.extui %ord : i1 to i32
    memref.store %l, %j[%t, %c0] : memref<8x8xi32>
    memref.store %m, %j[%t, %c1] : memref<8x8xi32>
    memref.store %n, %j[%t, %c2] : memref<8x8xi32>
    memref.store %o, %j[%t, %c3] : memref<8x8xi32>
    %z = memref.load %k[%t] : memref<8xi32>
    %w = arith.muli %z, %big : i32
    %w2 = arith.shrsi %w, %three : i32
    %w3 = arith.shrui %w, %three : i32
    %w4 = arith.xori %w2, %w3 : i32
    memref.store %w4, %j[%t, %c4] : memref<8x8xi32>
    %f = arith.sitofp %z : i32 to f32
    %h = arith.select %lt, %f, %one : f32
    memref.store %h, %y[%t, %c16] : memref<8x32xf32>
    %last = scf.if %yes -> (f32) {
      %neg = arith.negf %h : f32
      scf.yield %neg : f32
    } else {
      scf.yield %h : f32
    }
    memref.store %last, %y[%t, %c4] : memref<8x32xf32>
  }
  func.return
}
"""


@pytest.mark.parametrize("machine", ["native", "plain"])
def test_odd_constructs_equal_numpy(machine: str, tmp_path) -> None:
    module = parse(ODDITIES)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 32), dtype=np.float32)
    x[2, 5] = np.nan
    x[3, 23] = x[3, 5]
    k = np.array([0, 1, -1, 7, -2147483648, 2147483647, 12345, -99], np.int32)

    def arrays() -> list[np.ndarray]:
        return [x, k, np.zeros((8, 32), np.float32), np.zeros((8, 8), np.int32)]

    by_c, by_numpy = arrays(), arrays()
    library = compile_c(emit_module(module), tmp_path, machine)
    library.odd(*(ctypes.c_void_p(a.ctypes.data) for a in by_c), ctypes.c_int64(0), ctypes.c_int64(8))
    function = next(op for op in module.body.block.ops if isinstance(op, FuncOp))
    run_function(function, [*by_numpy, 0, 8])
    for got, expected in zip(by_c, by_numpy, strict=True):
        np.testing.assert_array_equal(got, expected)
        finite = ~np.isnan(expected)
        np.testing.assert_array_equal(got.view(np.int32)[finite], expected.view(np.int32)[finite])
    assert np.signbit(by_c[2][0, 17:]).all()


def refused(body: str) -> str:
    with pytest.raises(InternalError) as error:
        emit_module(parse(f"func.func @f(%x: f32, %m: memref<4xf32>) {{ {body}\nfunc.return }}"))
    return str(error.value)


def test_refusals() -> None:
    stored = "%c = arith.constant 0 : index memref.store %y, %m[%c] : memref<4xf32>"
    assert refused(f"%y = math.exp %x : f32 {stored}") == "C: no spelling for operation math.exp"
    dense = "arith.constant dense<[1.0, 2.0]> : vector<2xf32>"
    extract = "vector.extract %d[1] : f32 from vector<2xf32>"
    assert "one value in all lanes" in refused(f"%d = {dense} %y = {extract} {stored}")


def test_the_emitters_name_no_op_of_the_graph() -> None:
    for source in SOURCES:
        text = source.read_text()
        for op in OPS:
            assert op.name not in text, f"{source} names {op.name}"
        assert "ck.ir.ops" not in text, f"{source} imports ck's operations"
