"""Every operation that the emitters know, through C, LLVM and numpy: equal bits on values that are hard.

One function an operation, as a scalar and as a vector of 16 where the emitters take both. Floats are all
pairs of zeros, infinities, NaN, denormals, ties and ordinary numbers of both signs.
"""

import ctypes
import itertools
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from xdsl.dialects import arith
from xdsl.dialects.func import FuncOp

from ck.backend.c import operations as of_c
from ck.backend.c.text import emit_module as emit_c
from ck.backend.llvm import operations as of_llvm
from ck.backend.llvm.text import emit_module as emit_llvm
from ck.ir.rt.evaluate_loops import run_function
from tests.backend.compile import LlvmLibrary, compile_c, compile_llvm, parse

FLOATS = np.array(
    [0, 0.5, 1, 1.5, 2.5, 3, 1e-45, 1e-39, 1.1754944e-38, 0.1, 16777216, 3.4e38, np.inf, np.nan], np.float32
)
FLOATS = np.concatenate([FLOATS, -FLOATS])
INTEGERS = np.array([0, 1, 2, 3, 31, 127, 128, 32768, 65535, 2147483647, -1, -2, -128, -2147483648], np.int32)
ROWS = -(-(len(FLOATS) ** 2) // 16)
# Values that a float conversion to an integer has.
SMALL = np.array([0, 0.5, 0.999, 1.5, 2.5, 100.7, 65535.9, -0.5, -0.999, -1.5, -100.7], np.float32)

SCALAR = """
func.func @{name}(%x: memref<{n}x{a}>, %y: memref<{n}x{b}>, %z: memref<{n}x{r}>, %begin: index,
                  %end: index) {{
  {constants}
  %c1 = arith.constant 1 : index
  scf.for %t = %begin to %end step %c1 {{
    %u = memref.load %x[%t] : memref<{n}x{a}>
    %v = memref.load %y[%t] : memref<{n}x{b}>
    {body}
    memref.store %r, %z[%t] : memref<{n}x{r}>
  }}
  func.return
}}
"""
VECTOR = """
func.func @{name}(%x: memref<{n}x16x{a}>, %y: memref<{n}x16x{b}>, %z: memref<{n}x16x{r}>, %begin: index,
                  %end: index) {{
  {constants}
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %t = %begin to %end step %c1 {{
    %u = vector.load %x[%t, %c0] : memref<{n}x16x{a}>, vector<16x{a}>
    %v = vector.load %y[%t, %c0] : memref<{n}x16x{b}>, vector<16x{b}>
    {body}
    vector.store %r, %z[%t, %c0] : memref<{n}x16x{r}>, vector<16x{r}>
  }}
  func.return
}}
"""
DTYPES = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "i32": np.int32, "i64": np.int64}


@dataclass(frozen=True)
class Case:
    """`body` makes %r of type `r` from %u of type `a` and %v of type `b`; `T` in it is the operands' type."""

    name: str
    body: str
    a: str = "f32"
    b: str = "f32"
    r: str = "f32"
    forms: tuple[str, ...] = ("scalar", "vector")
    constants: str = ""
    # What the operands are drawn from, where not from all values of their type.
    values: str = "all"

    def text(self, form: str) -> str:
        template, n = (SCALAR, ROWS * 16) if form == "scalar" else (VECTOR, ROWS)
        wrap = (lambda of: of) if form == "scalar" else (lambda of: f"vector<16x{of}>")
        body = self.body.replace("TA", wrap(self.a)).replace("TB", wrap(self.b)).replace("TR", wrap(self.r))
        values = {"a": self.a, "b": self.b, "r": self.r, "n": n, "constants": self.constants}
        return template.format(name=f"{self.name}_{form}", body=body.replace("FORM", form), **values)


def _floats() -> Iterator[Case]:
    for word in ("addf", "subf", "mulf", "divf", "maximumf", "minimumf"):
        yield Case(word, f"%r = arith.{word} %u, %v : TA")
    yield Case("copysign", "%r = math.copysign %u, %v : TA")
    yield Case("negf", "%r = arith.negf %u : TA")
    for word in ("absf", "sqrt", "floor", "ceil", "trunc", "roundeven"):
        yield Case(word, f"%r = math.{word} %u : TA")
    for word, (name, number) in itertools.product(
        ("maximumf", "minimumf"),
        {"zero": "0.0", "below": "-0.0", "one": "1.0", "inf": "0x7f800000", "nan": "0x7fc00000"}.items(),
    ):
        broadcast = "%k = vector.broadcast %s : f32 to vector<16xf32>"
        constants = f"%s = arith.constant {number} : f32\n{broadcast}"
        yield Case(
            f"{word}_{name}", f"%r = arith.{word} %u, %s : f32", forms=("scalar",), constants=constants
        )
        yield Case(f"{word}_{name}", f"%r = arith.{word} %u, %k : TA", forms=("vector",), constants=constants)


def _integers() -> Iterator[Case]:
    types = {"a": "i32", "b": "i32", "r": "i32"}
    for word in ("addi", "subi", "muli", "andi", "ori", "xori"):
        yield Case(word, f"%r = arith.{word} %u, %v : TA", **types)
    for word in ("shli", "shrui", "shrsi"):
        yield Case(word, f"%r = arith.{word} %u, %v : TA", **types, values="counts")
    for word in ("divsi", "divui", "remsi", "remui"):
        yield Case(word, f"%r = arith.{word} %u, %v : TA", **types, values="divisors")


def _comparisons() -> Iterator[Case]:
    for word in arith.CMPF_COMPARISON_OPERATIONS:
        # Beside another comparison: `true` and `false` alone would use no operand.
        both = f"%c = arith.cmpf {word}, %u, %v : f32\n%d = arith.cmpf oge, %u, %v : f32\n"
        wide = "%m = arith.extui %c : i1 to i32\n%n = arith.extui %d : i1 to i32\n"
        body = f"{both}{wide}%o = arith.addi %m, %m : i32\n%r = arith.addi %o, %n : i32"
        yield Case(f"cmpf_{word}", body, r="i32", forms=("scalar",))
    for word, of in itertools.product(arith.CMPI_COMPARISON_OPERATIONS, ("i32", "index")):
        cast = "%p = arith.index_cast %u : i32 to index\n%q = arith.index_cast %v : i32 to index\n"
        names, before = ("%u, %v", "") if of == "i32" else ("%p, %q", cast)
        body = f"{before}%c = arith.cmpi {word}, {names} : {of}\n%r = arith.extui %c : i1 to i32"
        yield Case(f"cmpi_{word}_{of}", body, "i32", "i32", "i32", ("scalar",))
    select = "%c = arith.cmpf olt, %u, %v : f32\n%r = arith.select %c, %u, %v : TA"
    yield Case("select", select, forms=("scalar",))


def _conversions() -> Iterator[Case]:
    def cast(word: str, a: str, r: str, values: str = "all") -> Case:
        return Case(f"{word}_{a}_{r}", f"%r = arith.{word} %u : {a} to {r}", a, a, r, ("scalar",), "", values)

    yield from (cast("sitofp", a, "f32") for a in ("i32", "i64"))
    yield from (cast("uitofp", a, "f32") for a in ("i32", "i64"))
    yield cast("fptosi", "f32", "i32", "small")
    yield cast("fptoui", "f32", "i32", "positive")
    yield cast("extsi", "i32", "i64")
    yield cast("extui", "i32", "i64")
    yield cast("trunci", "i64", "i32")
    yield cast("extf", "f32", "f64")
    yield cast("truncf", "f64", "f32")
    yield cast("extf", "f16", "f32")
    yield cast("truncf", "f32", "f16")
    yield Case("bits_of", "%r = arith.bitcast %u : TA to TR", r="i32")
    yield Case("float_of", "%r = arith.bitcast %u : TA to TR", "i32", "i32", "f32")
    yield Case("bits_of_all", "%r = vector.bitcast %u : TA to TR", r="i32", forms=("vector",))
    index = "%p = arith.index_cast %u : i32 to index\n%q = arith.muli %p, %p : index\n"
    yield Case("index", f"{index}%r = arith.index_cast %q : index to i32", "i32", "i32", "i32", ("scalar",))


def _lanes() -> Iterator[Case]:
    def vectors(name: str, body: str) -> Case:
        return Case(name, body, forms=("vector",))

    take = "%e = vector.extract %u[5] : f32 from vector<16xf32>\n"
    yield vectors("extract", f"{take}%r = vector.broadcast %e : f32 to vector<16xf32>")
    yield vectors("insert", f"{take}%r = vector.insert %e, %v [11] : f32 into vector<16xf32>")
    for name, second, lanes in (
        ("turn", "u", [*range(3, 16), 0, 1, 2]),
        ("blend", "v", [*range(7), *range(23, 32)]),
        ("mixed", "v", [0, 31, 1, 30, 2, 29, 3, 28, 16, 15, 17, 14, 18, 13, 19, 12]),
    ):
        shuffle = f"vector.shuffle %u, %{second} {lanes}"
        yield vectors(f"shuffle_{name}", f"%r = {shuffle} : vector<16xf32>, vector<16xf32>")


CASES = [*_floats(), *_integers(), *_comparisons(), *_conversions(), *_lanes()]
FORMS = [pytest.param(c, form, id=f"{c.name}_{form}") for c in CASES for form in c.forms]


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rounded towards 0; exact in f64 for 32 bits."""
    return np.trunc(a / b).astype(a.dtype)


def _unsigned(of: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda a, b: of(a.view(np.uint32), b.view(np.uint32)).view(np.int32)


def _remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a - _quotient(a, b) * b


# What the interpreter of generated functions has no word for.
BEYOND_NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "divsi": _quotient,
    "divui": _unsigned(_quotient),
    "remsi": _remainder,
    "remui": _unsigned(_remainder),
    "fptoui_f32_i32": lambda a, b: a.astype(np.uint32).view(np.int32),
    "cmpf_true": lambda a, b: 2 + (a >= b).astype(np.int32),
    "cmpf_false": lambda a, b: (a >= b).astype(np.int32),
}

# Copies through a buffer of its own, sums up to a lane by a call, and masks of every count.
OTHERS = """
func.func @half(%x: f32) -> f32 {
  %k = arith.constant 0.5 : f32
  %r = arith.mulf %x, %k : f32
  func.return %r : f32
}
func.func @others(%x: memref<8x32xf32>, %y: memref<8x32xf32>, %begin: index, %end: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %copy = memref.alloca() : memref<8x32xf32>
  "memref.copy"(%x, %copy) : (memref<8x32xf32>, memref<8x32xf32>) -> ()
  scf.for %t = %begin to %end step %c1 {
    %row = memref.alloca() : memref<32xf32>
    scf.for %i = %c0 to %c32 step %c16 {
      %v = vector.load %copy[%t, %i] : memref<8x32xf32>, vector<16xf32>
      vector.store %v, %row[%i] : memref<32xf32>, vector<16xf32>
    }
    scf.for %i = %c0 to %c32 step %c1 {
      %v = memref.load %row[%i] : memref<32xf32>
      %even = arith.remui %i, %c16 : index
      %first = arith.cmpi eq, %even, %c0 : index
      scf.if %first {
        memref.store %v, %y[%t, %i] : memref<8x32xf32>
      } else {
        %h = func.call @half(%v) : (f32) -> f32
        memref.store %h, %y[%t, %i] : memref<8x32xf32>
      }
    }
  }
  func.return
}
"""
MASKED = """
func.func @masked_{n}(%x: memref<{n}xf32>, %rest: memref<16xf32>, %y: memref<2x16xf32>,
                      %z: memref<{n}xf32>) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = arith.constant {n} : index
  %mask = vector.create_mask %n : vector<16xi1>
  %other = vector.load %rest[%c0] : memref<16xf32>, vector<16xf32>
  %v = vector.maskedload %x[%c0], %mask, %other
    : memref<{n}xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
  vector.store %v, %y[%c0, %c0] : memref<2x16xf32>, vector<16xf32>
  vector.store %other, %y[%c1, %c0] : memref<2x16xf32>, vector<16xf32>
  vector.maskedstore %z[%c0], %mask, %v : memref<{n}xf32>, vector<16xi1>, vector<16xf32>
  func.return
}}
"""
FMA = """
func.func @fma_{word}(%x: memref<3x16xf32>, %y: memref<16xf32>) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %a = vector.load %x[%c0, %c0] : memref<3x16xf32>, vector<16xf32>
  %b = vector.load %x[%c1, %c0] : memref<3x16xf32>, vector<16xf32>
  %c = vector.load %x[%c2, %c0] : memref<3x16xf32>, vector<16xf32>
  %r = {word}.fma %a, %b, %c : vector<16xf32>
  vector.store %r, %y[%c0] : memref<16xf32>, vector<16xf32>
  func.return
}}
"""


@cache
def module():
    texts = [case.text(form) for case in CASES for form in case.forms]
    masks = [MASKED.format(n=n) for n in range(1, 17)]
    return parse("\n".join([*texts, OTHERS, *masks, *(FMA.format(word=word) for word in ("math", "vector"))]))


@cache
def function(name: str) -> FuncOp:
    return next(op for op in module().ops if isinstance(op, FuncOp) and op.sym_name.data == name)


@pytest.fixture(scope="session", params=["c", "llvm"])
def library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL | LlvmLibrary:
    """All functions through one backend."""
    folder = tmp_path_factory.mktemp("operations")
    if request.param == "c":
        return compile_c(emit_c(module()), folder)
    return compile_llvm(emit_llvm(module()), folder)


def pairs(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of the values that the case's operands take."""
    kinds = {"f": FLOATS, "i": INTEGERS}
    first, second = kinds[case.a[0]], kinds[case.b[0]]
    if case.values == "counts":
        second = np.arange(32, dtype=np.int32)
    elif case.values == "divisors":
        first, second = INTEGERS[INTEGERS != -2147483648], INTEGERS[INTEGERS != 0]
    elif case.values in ("small", "positive"):
        first = second = SMALL if case.values == "small" else np.append(SMALL[SMALL >= 0], 3e9)
    a, b = (grid.reshape(-1) for grid in np.meshgrid(first, second))
    with np.errstate(all="ignore"):
        return np.resize(a, ROWS * 16).astype(DTYPES[case.a]), np.resize(b, ROWS * 16).astype(DTYPES[case.b])


@pytest.mark.parametrize(("case", "form"), FORMS)
def test_an_operation_has_the_bits_of_numpy(
    case: Case, form: str, library: ctypes.CDLL | LlvmLibrary
) -> None:
    name, sizes = f"{case.name}_{form}", (-1,) if form == "scalar" else (-1, 16)
    a, b = (values.reshape(sizes) for values in pairs(case))
    got, expected = (np.zeros(a.shape, DTYPES[case.r]) for _ in range(2))
    if case.name in BEYOND_NUMPY:
        expected[...] = BEYOND_NUMPY[case.name](a, b)
    else:
        run_function(function(name), [a, b, expected, 0, len(a)])
    getattr(library, name)(*map(pointer, (a, b, got)), ctypes.c_int64(0), ctypes.c_int64(len(a)))
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), nan)
    assert got[~nan].tobytes() == expected[~nan].tobytes()


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def test_buffers_branches_and_calls(library: ctypes.CDLL | LlvmLibrary) -> None:
    x = np.random.default_rng(0).standard_normal((8, 32), dtype=np.float32)
    y = np.zeros_like(x)
    library.others(pointer(x), pointer(y), ctypes.c_int64(1), ctypes.c_int64(7))
    whole = np.arange(32) % 16 == 0
    np.testing.assert_array_equal(y[1:7], np.where(whole, x[1:7], x[1:7] / 2))
    assert not y[[0, 7]].any()


@pytest.fixture
def end_of_memory() -> Iterator[int]:
    """An address that may not be touched; the bytes before it may."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    view = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(view) + page
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    assert protect(address, page, 0) == 0
    yield address
    assert protect(address, page, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    del view
    memory.close()


@pytest.mark.parametrize("n", range(1, 17))
def test_a_mask_keeps_to_its_lanes(n: int, library: ctypes.CDLL | LlvmLibrary, end_of_memory: int) -> None:
    """What lies behind the last live lane is neither read nor written: touching it would end the process."""
    row = (ctypes.c_float * n).from_address(end_of_memory - 4 * n)
    row[:] = [1.5 * (lane + 1) for lane in range(n)]
    before = bytes(row)
    rest = np.arange(100, 116, dtype=np.float32)
    y = np.zeros((2, 16), np.float32)
    at = ctypes.c_void_p(end_of_memory - 4 * n)
    getattr(library, f"masked_{n}")(at, pointer(rest), pointer(y), at)
    assert bytes(row) == before
    np.testing.assert_array_equal(y[0], [*row, *rest[n:]])


@pytest.mark.parametrize("word", ["math", "vector"])
def test_a_fused_product_is_rounded_once(word: str, library: ctypes.CDLL | LlvmLibrary) -> None:
    """(1 + e)(1 - e) - 1 is -e^2; a product rounded before the sum would give 0."""
    e = np.ldexp(np.float32(1), -np.arange(13, 29) // 2 * 2 + 1).astype(np.float32)
    x = np.stack([1 + e, 1 - e, np.full(16, -1, np.float32)])
    y = np.zeros(16, np.float32)
    getattr(library, f"fma_{word}")(pointer(x), pointer(y))
    exact = (x[0].astype(np.float64) * x[1] + x[2]).astype(np.float32)
    np.testing.assert_array_equal(y, exact)
    assert y.any()


def test_both_backends_know_the_same_operations_and_each_has_a_case() -> None:
    assert of_c.KNOWN == of_llvm.KNOWN
    assert of_llvm.KNOWN - {type(op) for op in module().walk()} == set()
