"""Kernel ops: the runtime's kernels and the emulations of the interpreter against `reference`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ck.dtypes import BY_NAME
from ck.ir.op import CkOp, InPlace, KernelOp, Live
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.quantize_rows import QuantizeRowsOp
from ck.ir.types import ActivationType, KvType, WeightType, tensor
from tests.ops.case import OpCase, Operand, Sample, draw, pack_cache
from tests.ops.kernel_calls import EMULATED, emulation_of, run_emulation, run_kernels
from tests.ops.records import CASES, doubled, samples

# DESIGN section 9. Kernels of quantised weights meet the bound of float ones: they take activations of 15
# bits as exact integers, so against the reference on the same activations only the f32 sums over K round.
NMSE = 1e-7
# Rows of normal numbers rounded to 8 bits: the section's bound for quantised activations.
NMSE_OF_BYTES = 5e-4
# Samples and refusals of an instance that a test makes for itself.
NO_TESTS = ((), ())
# What rows that are not live hold: NaN, ids that no table has, and bytes of quantised rows.
JUNK = {"f": np.nan, "i": 1 << 30, "u": 0xFF}


def takes_live(op: CkOp) -> bool:
    """Whether the op's kernels are told how many rows are live."""
    assert isinstance(op, KernelOp)
    calls = op.kernels()
    return calls[0].outs is None or any(Live.N in call.ins for call in calls)


def live_counts(op: CkOp, sample: Sample) -> list[int]:
    """Live rows to try: what the sample says, else all of them, and all but the last."""
    if sample.numbers:
        return list(sample.numbers[:1])
    partly = takes_live(op) and sample.capacity > 1
    return [sample.capacity, sample.capacity - 1] if partly else [sample.capacity]


def at(sample: Sample, n: int) -> list[Operand]:
    """Drawn operands, of which a kernel may read what belongs to the first `n` tokens."""
    operands = draw(sample)
    if not sample.numbers:
        for place, operand in enumerate(operands):
            if sample.has_rows(place):
                rows = operand.stored
                rows[n * (len(rows) // sample.capacity) :] = JUNK[rows.dtype.kind]
    return operands


def exact(op: CkOp, sample: Sample, n: int) -> tuple[Any, ...]:
    """The results on the live rows by `reference`: in f64 where they are numbers."""
    values = [operand.value for operand in draw(sample)]
    for place, value in enumerate(values):
        if not sample.numbers and sample.has_rows(place):
            values[place] = value[: n * (len(value) // sample.capacity)]
    is_bytes = isinstance(op.results[0].type, KvType | ActivationType)
    return op.reference(*(value if is_bytes else doubled(value) for value in values))


def unpacked(value: Any) -> np.ndarray:
    """A result in one form: caches as the runtime keeps them."""
    return pack_cache(*value) if isinstance(value, tuple) else value


def holds_nothing(value: np.ndarray) -> bool:
    """Whether a result of `reference` is working memory."""
    return value.dtype.kind == "f" and bool(np.isnan(value).all())


def assert_near(got: np.ndarray, want: np.ndarray) -> None:
    """Equal bytes, or f32 within NMSE of f64."""
    if got.dtype == np.uint8:
        np.testing.assert_array_equal(got, want)
    else:
        assert np.isfinite(got).all()
        error, size = float(((got - want) ** 2).sum()), float((want**2).sum())
        assert error <= NMSE * size, f"NMSE {error / size if size else np.inf:.2e}"


def compare(got: list[Any], want: tuple[Any, ...], check: Callable[[Any, Any], None]) -> None:
    """Hold live rows against live rows; what is behind them is as it was: nobody wrote it."""
    for found, expected in zip(map(unpacked, got), map(unpacked, want), strict=True):
        if holds_nothing(expected):
            continue
        check(found[: len(expected)], expected)
        rest = found[len(expected) :]
        assert np.isnan(rest).all() if rest.dtype.kind == "f" else (rest == 0xFF).all()


@pytest.mark.parametrize(("case", "sample"), samples(KernelOp))
def test_kernels_mean_the_reference(case: OpCase, sample: Sample) -> None:
    _, op = case.make(sample)
    for n in live_counts(op, sample):
        whole = run_kernels(op, at(sample, n), n, 1)
        for part, same in zip(run_kernels(op, at(sample, n), n, 3), whole, strict=True):
            assert part.tobytes() == same.tobytes(), "three slices differ from one"
        compare(whole, exact(op, sample, n), assert_near)


@pytest.mark.parametrize(("case", "sample"), samples(KernelOp))
def test_emulations_are_the_reference(case: OpCase, sample: Sample) -> None:
    """To the bit but for sums of f32 numbers, which numpy takes in another order for other strides."""
    _, op = case.make(sample)

    def check(got: np.ndarray, want: np.ndarray) -> None:
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(got, want)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6 * np.abs(want).max(initial=0))

    for n in live_counts(op, sample):
        operands = at(sample, n)
        compare(run_emulation(op, operands, n), exact(op, sample, n), check)


@pytest.mark.parametrize(("case", "sample"), samples(InPlace))
def test_in_place_makes_no_difference(case: OpCase, sample: Sample) -> None:
    """The first result written over the operand that bufferization may give it: the same bits."""
    _, op = case.make(sample)
    assert isinstance(op, InPlace)
    without = len(op.operands) <= op.IN_PLACE_OPERAND or isinstance(op.results[0].type, KvType)
    if without or op.operands[op.IN_PLACE_OPERAND].type != op.results[0].type:
        return
    (apart,), (over,) = (run_kernels(op, draw(sample), sample.capacity, 2, by) for by in (False, True))
    assert apart.tobytes() == over.tobytes()


@pytest.mark.parametrize("bits", [15, 8])
@pytest.mark.parametrize("storage", [row.name for row in BY_NAME.values() if row.quantized])
def test_quantised_products(storage: str, bits: int, measured: Callable[[str], None]) -> None:
    """f32 rows, quantised and multiplied by kernels, against f64: 15 bits are as good as float products."""
    rows, n_in = 7, 512
    x = tensor(rows, n_in)
    _, quantize = OpCase(QuantizeRowsOp, *NO_TESTS).make(Sample((x,), {"bits": 8} if bits == 8 else {}))
    product = Sample((quantize.results[0].type, WeightType.of((33, n_in), storage)))
    _, linear = OpCase(LinearOp, *NO_TESTS).make(product)
    given, weight = draw(Sample((x,)))[0], draw(product)[1]
    (stored,) = run_kernels(quantize, [given], rows, 1)
    (got,) = run_kernels(linear, [Operand(stored, stored), weight], rows, 1)
    want = given.value.astype(np.float64) @ weight.value.astype(np.float64).T
    error = float(((got - want) ** 2).sum() / (want**2).sum())
    measured(f"linear {storage}, f32 rows of normal numbers in {bits} bits: NMSE {error:.1e}")
    assert error <= (NMSE if bits == 15 else NMSE_OF_BYTES)


def test_every_kernel_has_an_emulation() -> None:
    symbols = {
        call.symbol
        for case in CASES
        if issubclass(case.op, KernelOp)
        for sample in case.samples
        for call in case.make(sample)[1].kernels()
    }
    assert {emulation_of(symbol) for symbol in symbols} == set(EMULATED)
