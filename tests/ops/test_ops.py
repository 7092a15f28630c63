"""Every op against its own definition: text, refusals, generated code. Kernels: test_kernels.py, gradients:
test_gradients.py."""

import inspect
from functools import cache
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import IndexType, ModuleOp
from xdsl.parser import Parser
from xdsl.utils.exceptions import VerifyException

from ck.ir.dialects import context
from ck.ir.op import CkOp, KernelOp, RowWise
from ck.ir.ops import OPS
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import KvType, tensor
from tests.ops.case import FOLDER, OpCase, Refusal, Sample, draw
from tests.ops.records import CASES, function, name_of, samples
from tests.ops.row_functions import (
    Libraries,
    assert_same_bits,
    compile_both,
    function_named,
    fuse,
    lower,
    run_loops,
)

# Leaves and groups, which have no formula of their own: test_structural.py.
STRUCTURAL = {WeightOp, CacheOp, FusedOp, YieldOp}
EPSILON = 2.0**-23
# Where exp reaches infinity a quotient is 0 instead of about x * 2^-128, |x| < 2^10.
UNDERFLOW = 2.0**-118
# Samples and refusals of an instance that a test makes for itself.
NO_TESTS = ((), ())


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
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    """All generated functions."""
    return compile_both(module(), tmp_path_factory.mktemp("ops"))


@pytest.mark.parametrize(("case", "sample"), samples(RowWise))
def test_generated_code_means_the_reference(
    case: OpCase, sample: Sample, compiled: Libraries, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    group = groups()[name]
    for scale in case.scales:
        inputs = [operand.value for operand in draw(sample, scale)]
        loops = run_loops(function_named(module(), name), group, inputs)
        assert_same_bits(compiled, name, group, inputs, loops)
        assert_close(case, sample, inputs, [rows[: group.rows] for rows in loops])


def assert_close(case: OpCase, sample: Sample, inputs: list[Any], got: list[np.ndarray]) -> None:
    """`got` is as near the f64 reference as the case's roundings say; the f32 reference stays f32."""
    _, op = case.make(sample)
    exact = [value.astype(np.float64) if isinstance(value, np.ndarray) else value for value in inputs]
    assert case.roundings, f"{op.name}: its OpCase says no roundings"
    results = op.reference(*exact)
    bounds = case.roundings(*exact, *results)
    for place, want in enumerate(results):
        bound = EPSILON * (bounds[place] if isinstance(bounds, tuple) else bounds) + UNDERFLOW
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
