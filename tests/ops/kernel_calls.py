"""Run a kernel op's calls as a program would: through ck_rt.h by ctypes, or by the ops' emulations."""

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import IndexType
from xdsl.ir import Attribute

from ck.ir.op import CkOp, InPlace, KernelCall, KernelOp, Updates
from ck.ir.ops import OPS
from ck.ir.types import ActivationType, KvType, WeightType, shape
from ck.runtime.library import library
from tests.ops.case import Operand

EMULATED = {prefix: op for op in OPS if issubclass(op, KernelOp) for prefix in op.KERNELS}


def empty(of: Attribute) -> np.ndarray:
    """An output that nobody has written: f32 NaN, or bytes of 0xFF."""
    if isinstance(of, ActivationType):
        return np.full((shape(of)[0], of.row_bytes), 0xFF, np.uint8)
    return np.full(shape(of), np.nan, np.float32)


def wiring(
    op: CkOp, ins: Sequence[Any], outs: Sequence[Any], n: int
) -> Iterator[tuple[KernelCall, Any, Any]]:
    """Each call of `op` with its outputs and inputs, in the order of the kernels' prototypes."""
    assert isinstance(op, KernelOp)
    calls = op.kernels()
    if calls[0].outs is not None:
        known = dict(zip((*op.operands, *op.results), (*ins, *outs), strict=True))
        for call in calls:
            yield call, [known[value] for value in call.outs], [known.get(value, n) for value in call.ins]
        return
    ins = list(ins)
    if not any(isinstance(value.type, IndexType) for value in op.operands):
        ins.append(n)
    if isinstance(op.results[0].type, KvType):
        # A cache is written where it is.
        yield calls[0], [ins[0]], ins[1:]
    elif len(calls) == 1:
        yield calls[0], outs, ins
    else:
        for place, call in enumerate(calls):
            yield call, [outs[place]], [ins[0], ins[1 + place], n]


def pack(of: WeightType, stored: np.ndarray) -> np.ndarray:
    """A file's rows in layout r16: bytes."""
    n_out, n_in = of.get_shape()
    packed = np.zeros(of.row.matrix_packed_bytes(n_out, n_in) + 64, np.uint8)
    getattr(library(), f"ck_pack_{of.storage.data}")(
        packed.ctypes.data, stored.ctypes.data, n_out, n_in, 0, 1
    )
    return packed


def outputs(op: CkOp, ins: Sequence[Any]) -> list[Any]:
    """Where the results go that are not caches: over the operand that the op updates, or to fresh memory."""
    updated = dict(op.updated) if isinstance(op, Updates) else {}
    place_of = {value: place for place, value in enumerate(op.operands)}
    return [
        ins[place_of[updated[value]]] if value in updated else empty(value.type)
        for value in op.results
        if not isinstance(value.type, KvType)
    ]


def run_kernels(
    op: CkOp, operands: Sequence[Operand], n: int, nth: int, in_place: bool = False
) -> list[np.ndarray]:
    """The results of `op` by libck_rt, its slices run one after the other.

    With `in_place` the first result is written over the operand that an `InPlace` op may overwrite.
    """
    stored: list[Any] = []
    for value, operand in zip(op.operands, operands, strict=True):
        of = value.type
        packed = isinstance(of, WeightType) and of.layout.data != "rows"
        stored.append(pack(of, operand.stored) if packed else _copy(operand.stored))
    outs = outputs(op, stored)
    if in_place:
        assert isinstance(op, InPlace)
        outs[0] = stored[op.IN_PLACE_OPERAND]
    for call, to, given in wiring(op, stored, outs, n):
        arguments = [_argument(value) for value in (*to, *given, *call.immediates.values())]
        for tid in range(nth):
            getattr(library(), call.symbol)(*arguments, ctypes.c_int(tid), ctypes.c_int(nth))
    return outs or [stored[0]]


def _copy(value: Any) -> Any:
    return np.ascontiguousarray(value).copy() if isinstance(value, np.ndarray) else value


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int64(value)


def run_emulation(op: CkOp, operands: Sequence[Operand], n: int) -> list[Any]:
    """The results of `op` by the emulations of the kernels it calls."""
    values = [_copy(operand.value) for operand in operands]
    outs = outputs(op, values)
    for call, to, given in wiring(op, values, outs, n):
        EMULATED[emulation_of(call.symbol)].emulate(call.symbol, to, given, call.immediates)
    return outs or [values[0]]


def emulation_of(symbol: str) -> str:
    """The longest beginning of `symbol` that an op answers for. Raises ValueError when there is none."""
    return max((prefix for prefix in EMULATED if symbol.startswith(prefix)), key=len)
