"""Every op against its own definition: text, refusals, generated code, kernels, gradient."""

import ctypes
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder, InsertPoint
from xdsl.dialects.builtin import IndexType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue
from xdsl.parser import Parser
from xdsl.utils.exceptions import VerifyException

from ck.backend.c.text import emit_module
from ck.dtypes import BY_NAME
from ck.ir.dialects import context
from ck.ir.evaluate import Environment, evaluate
from ck.ir.op import CkOp, Differentiable, KernelOp, RowWise
from ck.ir.ops import OPS
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.quantize_rows import QuantizeRowsOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import ActivationType, KvType, WeightType, tensor
from tests.backend.compile import compile_c
from tests.ops.case import FOLDER, OpCase, Operand, Refusal, Sample, cases, draw, pack_cache
from tests.ops.kernel_calls import EMULATED, emulation_of, run_emulation, run_kernels
from tests.ops.row_functions import UNTOUCHED, function_named, fuse, lower, run_c, run_loops

CASES = list(cases())
# Leaves and groups, which have no formula of their own: test_structural.py.
STRUCTURAL = {WeightOp, CacheOp, FusedOp, YieldOp}
EPSILON = 2.0**-23
# Where exp reaches infinity a quotient is 0 instead of about x * 2^-128, |x| < 2^10.
UNDERFLOW = 2.0**-118
# DESIGN section 9. Kernels of quantised weights meet the bound of float ones: they take activations of 15
# bits as exact integers, so against the reference on the same activations only the f32 sums over K round.
NMSE = 1e-7
# Samples and refusals of an instance that a test makes for itself.
NO_TESTS = ((), ())


def name_of(case: OpCase, number: int) -> str:
    """An identifier for one sample, unique among all records."""
    return f"{case.op.name.removeprefix('ck.')}_{CASES.index(case)}_{number}"


def samples(kind: type) -> list[Any]:
    """(case, sample) of every op of `kind`, as pytest's parameters."""
    return [
        pytest.param(case, sample, id=name_of(case, number))
        for case in CASES
        if issubclass(case.op, kind)
        for number, sample in enumerate(case.samples)
    ]


def function(name: str, block: Block, results: list[SSAValue]) -> FuncOp:
    """A function that returns `results` of `block`."""
    block.add_op(ReturnOp(*results))
    types = ([arg.type for arg in block.args], [value.type for value in results])
    return FuncOp(name, types, Region(block))


@pytest.mark.parametrize(("case", "sample"), samples(CkOp))
def test_text_round_trips(case: OpCase, sample: Sample) -> None:
    block, op = case.make(sample)
    module = ModuleOp([function("f", block, list(op.results))])
    module.verify()
    text = str(module)
    again = Parser(context(), text).parse_module()
    again.verify()
    assert str(again) == text
    assert op.name in text


def build(case: OpCase, sample: Sample) -> None:
    """Make and verify an instance."""
    _, op = case.make(sample)
    op.verify()


@pytest.mark.parametrize(
    ("case", "refusal"),
    [
        pytest.param(case, refusal, id=name_of(case, number))
        for case in CASES
        for number, refusal in enumerate(case.refusals)
    ],
)
def test_refusals_say_what_is_wrong(case: OpCase, refusal: Refusal) -> None:
    with pytest.raises(VerifyException, match=refusal.words):
        build(case, refusal.sample)


@pytest.mark.parametrize(("case", "sample"), samples(CkOp))
def test_the_verifier_infers(case: OpCase, sample: Sample) -> None:
    """A result type that `infer` would not give is refused: of every result, one at a time."""
    _, op = case.make(sample)
    op.verify()
    right = [value.type for value in op.results]
    for place, of in enumerate(right):
        wrong = KvType.of(7, 64, 16, "f32") if isinstance(of, KvType) else tensor(7, 7)
        types = [*right[:place], wrong, *right[place + 1 :]]
        broken = type(op).create(operands=op.operands, result_types=types, properties=op.properties)
        with pytest.raises(VerifyException):
            broken.verify()
        broken.erase()


@pytest.mark.parametrize(("case", "sample"), samples(CkOp))
def test_cost_counts(case: OpCase, sample: Sample) -> None:
    _, op = case.make(sample)
    cost = op.cost()
    moves = not isinstance(op, KernelOp | RowWise)
    assert (cost.n_bytes == 0) == moves, f"{op.name}: {cost}"
    assert cost.flops >= 0


# Row-wise ops: the generated function.


@cache
def groups() -> dict[str, FusedOp]:
    return {
        name_of(case, number): fuse(case.make(sample)[1])
        for case in CASES
        if issubclass(case.op, RowWise)
        for number, sample in enumerate(case.samples)
    }


@cache
def module() -> ModuleOp:
    return lower(groups())


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """All generated functions as C."""
    return compile_c(emit_module(module()), tmp_path_factory.mktemp("ops"))


@pytest.mark.parametrize(("case", "sample"), samples(RowWise))
def test_generated_code_means_the_reference(
    case: OpCase, sample: Sample, compiled: ctypes.CDLL, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    group = groups()[name]
    for scale in case.scales:
        inputs = [operand.value for operand in draw(sample, scale)]
        loops = run_loops(function_named(module(), name), group, inputs)
        in_c = run_c(compiled, name, group, inputs)
        for got, same in zip(loops, in_c, strict=True):
            np.testing.assert_array_equal(got.view(np.uint32), same.view(np.uint32))
            assert (got[group.rows :] == UNTOUCHED).all(), "rows past the last were written"
        assert_close(case, sample, inputs, [rows[: group.rows] for rows in loops])


def assert_close(case: OpCase, sample: Sample, inputs: list[Any], got: list[np.ndarray]) -> None:
    """`got` is as near the f64 reference as the case's roundings say; the f32 reference stays f32."""
    _, op = case.make(sample)
    exact = [value.astype(np.float64) if isinstance(value, np.ndarray) else value for value in inputs]
    assert case.roundings, f"{op.name}: its OpCase says no roundings"
    for place, want in enumerate(op.reference(*exact)):
        bound = EPSILON * case.roundings(*exact, want) + UNDERFLOW
        excess = float((np.abs(got[place] - want) / bound).max())
        assert excess <= 1, f"{op.name}: {excess:.2f} times the bound"
        assert op.reference(*inputs)[place].dtype == np.float32


def in_promised_order(row: np.ndarray) -> np.float32:
    """The sum of f32 columns in the order that ck/ir/rows.py promises."""
    sums = np.zeros((4, 16), np.float32)
    for column, value in enumerate(row):
        sums[column // 16 % 4, column % 16] += value
    total = (sums[0] + sums[1]) + (sums[2] + sums[3])
    for distance in (8, 4, 2, 1):
        total = total + np.roll(total, -distance)
    return total[0]


@pytest.mark.parametrize("width", [1, 15, 17, 64, 65, 576, 1000])
def test_a_sum_has_the_promised_order(width: int) -> None:
    """Bit for bit, through rms_norm, whose other operations round in one way only."""
    sample = Sample((tensor(3, width), tensor(width)), {"eps": 1e-5})
    group = fuse(OpCase(RmsNormOp, *NO_TESTS).make(sample)[1])
    x, w = (operand.value for operand in draw(sample))
    (got,) = run_loops(function_named(lower({"f": group}), "f"), group, [x, w])
    total = np.array([in_promised_order(row * row) for row in x])
    r = np.float32(1) / np.sqrt(total / np.float32(width) + np.float32(1e-5))
    np.testing.assert_array_equal(got[:3], x * r[:, None] * w)


# Kernel ops: the runtime's kernels.


def unpacked(value: Any) -> np.ndarray:
    """A result in one form: caches as the runtime keeps them."""
    return pack_cache(*value) if isinstance(value, tuple) else value


def assert_near(got: np.ndarray, want: np.ndarray) -> None:
    """Equal bytes, or f32 within NMSE of f64."""
    if got.dtype == np.uint8:
        np.testing.assert_array_equal(got, want)
    else:
        assert np.isfinite(got).all()
        error = float(((got - want) ** 2).sum() / (want**2).sum())
        assert error <= NMSE, f"NMSE {error:.2e}"


def doubled(value: Any) -> Any:
    """Float arrays in f64; caches and quantised rows hold their own type."""
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return value.astype(np.float64)
    return value


@pytest.mark.parametrize(("case", "sample"), samples(KernelOp))
def test_kernels_mean_the_reference(case: OpCase, sample: Sample) -> None:
    _, op = case.make(sample)
    rows = next((of.get_shape()[0] for of in sample.operands if hasattr(of, "get_shape")), 1)
    n = sample.numbers[0] if sample.numbers else rows
    whole = run_kernels(op, draw(sample), n, 1)
    for part, same in zip(run_kernels(op, draw(sample), n, 3), whole, strict=True):
        assert part.tobytes() == same.tobytes(), "three slices differ from one"
    want = op.reference(*(keep_f32(op, operand.value) for operand in draw(sample)))
    for got, exact in zip(whole, want, strict=True):
        assert_near(
            got[:n] if got.ndim == 2 else got, unpacked(exact)[:n] if got.ndim == 2 else unpacked(exact)
        )


def keep_f32(op: CkOp, value: Any) -> Any:
    """Operands for the exact result: in f64 where the result is a number, as they are where it is bytes."""
    return doubled(value) if str(op.results[0].type).startswith("tensor") else value


@pytest.mark.parametrize(("case", "sample"), samples(KernelOp))
def test_emulations_are_the_reference(case: OpCase, sample: Sample) -> None:
    _, op = case.make(sample)
    operands = draw(sample)
    rows = len(np.atleast_1d(operands[0].stored)) if not sample.numbers else sample.numbers[0]
    got = run_emulation(op, operands, rows)
    for found, want in zip(got, op.reference(*(operand.value for operand in draw(sample))), strict=True):
        np.testing.assert_array_equal(unpacked(found), unpacked(want))


@pytest.mark.parametrize("storage", [row.name for row in BY_NAME.values() if row.quantized])
def test_quantised_products_are_as_good_as_float_ones(storage: str, measured: Callable[[str], None]) -> None:
    """f32 rows, quantised and multiplied by kernels, against f64: 15 bits cost less than the bound."""
    rows, n_in = 7, 512
    x = tensor(rows, n_in)
    _, quantize = OpCase(QuantizeRowsOp, *NO_TESTS).make(Sample((x,)))
    product = Sample((ActivationType.of((rows, n_in)), WeightType.of((33, n_in), storage)))
    _, linear = OpCase(LinearOp, *NO_TESTS).make(product)
    given, weight = draw(Sample((x,)))[0], draw(product)[1]
    (stored,) = run_kernels(quantize, [given], rows, 1)
    (got,) = run_kernels(linear, [Operand(stored, stored), weight], rows, 1)
    want = given.value.astype(np.float64) @ weight.value.astype(np.float64).T
    error = float(((got - want) ** 2).sum() / (want**2).sum())
    measured(f"linear {storage}, f32 rows of normal numbers: NMSE {error:.1e}")
    assert error <= NMSE


def test_every_kernel_has_an_emulation() -> None:
    symbols = {
        call.symbol
        for case in CASES
        if issubclass(case.op, KernelOp)
        for sample in case.samples
        for call in case.make(sample)[1].kernels()
    }
    assert {emulation_of(symbol) for symbol in symbols} == set(EMULATED)


# Gradients.


def gradient_module(case: OpCase, sample: Sample) -> ModuleOp:
    """@forward: the op; @backward: operands and the results' cotangents to those of the operands."""
    block, op = case.make(sample)
    forward = function("forward", block, list(op.results))
    results = [value.type for value in op.results]
    block = Block(arg_types=[*sample.operands, *results])
    builder = Builder(InsertPoint.at_end(block))
    count = len(sample.operands)
    again = builder.insert((case.build or case.op.build_op)(*block.args[:count], **sample.properties))
    assert isinstance(again, Differentiable)
    cotangents = again.vjp(builder, *block.args[count:])
    assert len(cotangents) == count
    backward = function("backward", block, [value for value in cotangents if value is not None])
    made = ModuleOp([forward, backward])
    made.verify()
    return made


@pytest.mark.parametrize(("case", "sample"), samples(Differentiable))
def test_gradient_is_the_slope(case: OpCase, sample: Sample) -> None:
    """Against central differences in f64, along a random direction of each operand: within 1e-5."""
    gradients = gradient_module(case, sample)
    step = 1e-6
    operands = [doubled(operand.value) for operand in draw(sample)]
    rng = np.random.default_rng(1)

    def run(name: str, *args: Any) -> tuple[Any, ...]:
        return evaluate(gradients, name, args, Environment({}))

    cotangents = [rng.standard_normal(value.shape) for value in run("forward", *operands)]

    def loss(place: int, by: np.ndarray) -> float:
        moved = [value + by if at == place else value for at, value in enumerate(operands)]
        return sum(float((c * y).sum()) for c, y in zip(cotangents, run("forward", *moved), strict=True))

    floats = [place for place, value in enumerate(operands) if isinstance(value, np.ndarray)]
    found = run("backward", *operands, *cotangents)
    assert len(found) == len(floats), "a float operand has no cotangent"
    for place, gradient in zip(floats, found, strict=True):
        direction = rng.standard_normal(operands[place].shape)
        slope = (loss(place, step * direction) - loss(place, -step * direction)) / (2 * step)
        size = float(np.abs(gradient * direction).sum())
        assert abs(slope - float((gradient * direction).sum())) <= 1e-5 * size


# The records themselves.


@pytest.mark.parametrize("op", [op for op in OPS if op not in STRUCTURAL], ids=lambda op: op.name)
def test_every_op_has_a_record(op: type[CkOp]) -> None:
    """In the file called like the op's own: tests/ops/silu.py for silu and silu_bwd of ck/ir/ops/silu.py."""
    stem = inspect.getmodule(op).__name__.rpartition(".")[2]
    assert (FOLDER / f"{stem}.py").is_file(), f"{op.name}: wants tests/ops/{stem}.py"
    own = [case for case in CASES if case.op is op]
    assert own, f"{op.name}: tests/ops/{stem}.py has no OpCase of it"
    assert any(case.refusals for case in own), f"{op.name}: no refusal"
    sizes = [of.get_shape() for case in own for s in case.samples for of in s.operands if _has_sizes(of)]
    assert any(size % 2 and size > 1 for of in sizes for size in of), f"{op.name}: no odd size"


def _has_sizes(of: object) -> bool:
    return hasattr(of, "get_shape") and not isinstance(of, IndexType)


def test_kinds_are_complete() -> None:
    """An op that computes is row-wise or a kernel's; a reshape is a view."""
    for case in CASES:
        assert issubclass(case.op, RowWise | KernelOp) or case.op.name == "ck.reshape"
