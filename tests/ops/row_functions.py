"""Generated functions of row-wise ops: lowered, expanded, compiled, and run in numpy, in C and in LLVM."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.builder import Builder, InsertPoint
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Region

from ck.backend.c.text import emit_module as emit_c
from ck.backend.llvm.text import emit_module as emit_llvm
from ck.ir.lower_rows import lower_fused
from ck.ir.op import CkOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.rt.evaluate_loops import run_function
from ck.ir.types import shape
from tests.backend.compile import LlvmLibrary, compile_c, compile_llvm, expand

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


Libraries = tuple[ctypes.CDLL, LlvmLibrary]


def compile_both(module: ModuleOp, folder: Path) -> Libraries:
    """The functions of `module` through both backends."""
    return compile_c(emit_c(module), folder), compile_llvm(emit_llvm(module), folder)


def assert_same_bits(
    libraries: Libraries, name: str, group: FusedOp, inputs: Sequence[Any], rows: Sequence[np.ndarray]
) -> None:
    """Both compiled functions write the bits of `rows`, and nothing past the last row."""
    for library in libraries:
        for got, same in zip(rows, _run_compiled(library, name, group, inputs), strict=True):
            np.testing.assert_array_equal(got.view(np.uint32), same.view(np.uint32))
    for got in rows:
        assert (got[group.rows :] == UNTOUCHED).all(), "rows past the last were written"


def _run_compiled(
    library: ctypes.CDLL | LlvmLibrary, name: str, group: FusedOp, inputs: Sequence[Any]
) -> list[np.ndarray]:
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
