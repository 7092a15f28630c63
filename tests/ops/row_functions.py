"""Generated functions of row-wise ops: lowered, expanded, compiled, and run in numpy and in C."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.builder import Builder, InsertPoint
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Region

from ck.ir.lower_rows import lower_fused
from ck.ir.op import CkOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.rt.evaluate_loops import run_function
from ck.ir.types import shape
from tests.backend.compile import expand

# What a row that must not be written holds.
UNTOUCHED = -7


def fuse(op: CkOp) -> FusedOp:
    """`op` alone as a group."""
    block = Block(arg_types=[value.type for value in op.operands])
    mapping = dict(zip(op.operands, block.args, strict=True))
    builder = Builder(InsertPoint.at_end(block))
    inner = builder.insert(op.clone(value_mapper=mapping))
    builder.insert(YieldOp.create(operands=inner.results))
    types = [value.type for value in op.results]
    return FusedOp.create(operands=op.operands, result_types=types, regions=[Region(block)])


def lower(groups: dict[str, FusedOp]) -> ModuleOp:
    """One function for each group, its math expanded."""
    return expand(ModuleOp([lower_fused(group, name) for name, group in groups.items()]))


def function_named(module: ModuleOp, name: str) -> FuncOp:
    """A function of `module`."""
    return next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == name)


def buffers(group: FusedOp) -> list[np.ndarray]:
    """Its outputs, each with one row more than it has to write."""
    sizes = [shape(value.type) for value in group.outputs]
    return [np.full((rows + 1, columns), UNTOUCHED, np.float32) for rows, columns in sizes]


def run_loops(function: FuncOp, group: FusedOp, inputs: Sequence[Any]) -> list[np.ndarray]:
    """All rows by the numpy interpreter of generated functions."""
    outs = buffers(group)
    run_function(function, [*inputs, *outs, 0, group.rows])
    return outs


def run_c(library: ctypes.CDLL, name: str, group: FusedOp, inputs: Sequence[Any]) -> list[np.ndarray]:
    """All rows by the compiled function, in two calls as two threads would make."""
    outs = buffers(group)
    given = [
        ctypes.c_void_p(value.ctypes.data) if isinstance(value, np.ndarray) else ctypes.c_int64(value)
        for value in (*inputs, *outs)
    ]
    half = group.rows // 2
    for begin, end in ((half, group.rows), (0, half)):
        getattr(library, name)(*given, ctypes.c_int64(begin), ctypes.c_int64(end))
    return outs
