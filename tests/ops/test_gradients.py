"""Every op's gradient is the slope of its reference."""

from typing import Any

import numpy as np
import pytest
from xdsl.builder import Builder, InsertPoint
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, SSAValue

from ck.ir.evaluate import Environment, evaluate
from ck.ir.op import CkOp, Differentiable
from tests.ops.case import OpCase, Sample, draw
from tests.ops.records import doubled, function, samples

STEP = 1e-6
BOUND = 1e-5


def without_slope(case: OpCase, op: CkOp) -> set[SSAValue]:
    """Operands and results through which no gradient flows."""
    return {getattr(op, name) for name in case.no_slope if hasattr(op, name)}


def gradient_module(case: OpCase, sample: Sample) -> ModuleOp:
    """@forward: the op; @backward: operands and the results' cotangents to those of the operands."""
    block, op = case.make(sample)
    flowing = [result for result in op.results if result not in without_slope(case, op)]
    seeds = [result in flowing for result in op.results]
    forward = function("forward", block, flowing)
    block = Block(arg_types=[*sample.operands, *(value.type for value in flowing)])
    builder = Builder(InsertPoint.at_end(block))
    count = len(sample.operands)
    again = builder.insert((case.build or case.op.build_op)(*block.args[:count], **sample.properties))
    assert isinstance(again, Differentiable)
    given = iter(block.args[count:])
    cotangents = again.vjp(builder, *(next(given) if seed else None for seed in seeds))
    assert len(cotangents) == count
    for operand, cotangent in zip(again.operands, cotangents, strict=True):
        assert cotangent is None or cotangent.type == operand.type
        assert cotangent is None or operand not in without_slope(case, again)
    backward = function("backward", block, [value for value in cotangents if value is not None])
    made = ModuleOp([forward, backward])
    made.verify()
    return made


@pytest.mark.parametrize(("case", "sample"), samples(Differentiable, slopes=True))
def test_gradient_is_the_slope(case: OpCase, sample: Sample) -> None:
    """Against central differences in f64, along a random direction of each operand: within 1e-5."""
    gradients = gradient_module(case, sample)
    op = case.make(sample)[1]
    fixed = [operand in without_slope(case, op) for operand in op.operands]
    operands = [doubled(operand.value) for operand in draw(sample)]
    # Other numbers than the operands': along x itself a norm does not change.
    rng = np.random.default_rng(100)

    def run(name: str, *args: Any) -> tuple[Any, ...]:
        return evaluate(gradients, name, args, Environment({}))

    cotangents = [rng.standard_normal(value.shape) for value in run("forward", *operands)]

    def loss(place: int, by: np.ndarray) -> float:
        moved = [value + by if at == place else value for at, value in enumerate(operands)]
        return sum(float((c * y).sum()) for c, y in zip(cotangents, run("forward", *moved), strict=True))

    floats = [
        place
        for place, value in enumerate(operands)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not fixed[place]
    ]
    found = run("backward", *operands, *cotangents)
    assert len(found) == len(floats), "a float operand has no cotangent"
    for place, gradient in zip(floats, found, strict=True):
        direction = rng.standard_normal(operands[place].shape)
        slope = (loss(place, STEP * direction) - loss(place, -STEP * direction)) / (2 * STEP)
        size = float(np.abs(gradient * direction).sum())
        assert abs(slope - float((gradient * direction).sum())) <= BOUND * size


def test_a_wrong_gradient_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One factor more in one rule."""
    case, sample = next(
        p.values for p in samples(Differentiable, slopes=True) if p.values[0].op.name == "ck.silu"
    )
    right = case.op.vjp

    def wrong(op: Any, b: Builder, dy: SSAValue) -> Any:
        from ck.ir.ops.scale import ScaleOp

        return (b.insert(ScaleOp.build_op(*right(op, b, dy), factor=1.001)).y,)

    monkeypatch.setattr(case.op, "vjp", wrong)
    with pytest.raises(AssertionError):
        test_gradient_is_the_slope(case, sample)
