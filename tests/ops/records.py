"""All records, and what the generic tests make of them."""

from typing import Any

import numpy as np
import pytest
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue

from tests.ops.case import OpCase, cases

CASES = list(cases())


def name_of(case: OpCase, number: int) -> str:
    """An identifier for one sample, unique among all records."""
    return f"{case.op.name.removeprefix('ck.')}_{CASES.index(case)}_{number}"


def samples(kind: type, slopes: bool = False) -> list[Any]:
    """(case, sample) of every op of `kind`, as pytest's parameters; `slopes`: those that have a gradient."""
    return [
        pytest.param(case, sample, id=name_of(case, number))
        for case in CASES
        if issubclass(case.op, kind)
        for number, sample in enumerate(case.slopes if slopes and case.slopes is not None else case.samples)
    ]


def function(name: str, block: Block, results: list[SSAValue]) -> FuncOp:
    """A function that returns `results` of `block`."""
    block.add_op(ReturnOp(*results))
    types = ([arg.type for arg in block.args], [value.type for value in results])
    return FuncOp(name, types, Region(block))


def doubled(value: Any) -> Any:
    """Float arrays in f64; caches, quantised rows and integers hold their own type."""
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return value.astype(np.float64)
    return value
