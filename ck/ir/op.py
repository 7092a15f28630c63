"""What every `ck` op promises, and the small interfaces by which passes know ops without naming them.

An op is defined once, in ck/ir/ops/<op>.py: `infer` (its only shape rule, used by builder and verifier
alike), `reference` (slow, obvious numpy), `vjp` (its gradient), `cost`, and its lowering: row-wise loops
(`RowWise.lower_row`) or a runtime kernel (`KernelOp.kernel`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, IntegerAttr, StringAttr, SymbolRefAttr, f32, i64
from xdsl.ir import Attribute, Operation, OpResult, SSAValue
from xdsl.irdl import IRDLOperation, prop_def
from xdsl.traits import EffectInstance, MemoryEffect, MemoryEffectKind
from xdsl.utils.exceptions import VerifyException

from ck.errors import InternalError

Array: TypeAlias = NDArray[Any]


def attr(value: "int | float | str | tuple[int, ...] | Attribute") -> Attribute:
    """A Python value as the property that holds it: i64, f32, a string, an array of i64."""
    if isinstance(value, Attribute):
        return value
    if isinstance(value, tuple):
        return DenseArrayBase.from_list(i64, value)
    if isinstance(value, str):
        return StringAttr(value)
    if isinstance(value, int):
        return IntegerAttr(value, i64)
    return FloatAttr(value, f32)


def int_value(value: Attribute) -> int:
    """The Python int of an integer property."""
    if not isinstance(value, IntegerAttr):
        raise VerifyException(f"required an integer property, got {value}")
    return value.value.data


def ints_value(value: Attribute) -> tuple[int, ...]:
    """The Python ints of an array property."""
    if not isinstance(value, DenseArrayBase):
        raise VerifyException(f"required an array property, got {value}")
    return tuple(int(number) for number in value.iter_values())


def float_value(value: Attribute) -> float:
    """The Python float of a float property (f32 values are exact)."""
    if not isinstance(value, FloatAttr):
        raise VerifyException(f"required a float property, got {value}")
    return float(np.float32(value.value.data))


def number_value(value: Attribute) -> int | float:
    """The Python number of an integer or float property."""
    return value.value.data if isinstance(value, IntegerAttr) else float_value(value)


def str_value(value: Attribute) -> str:
    """The text of a string property."""
    if not isinstance(value, StringAttr):
        raise VerifyException(f"required a string property, got {value}")
    return value.data


class CkOp(IRDLOperation, ABC):
    """Base of all `ck` ops: result types come from `infer`, and the verifier recomputes them."""

    IS_STATE: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def infer(*operands: Any, **properties: Any) -> tuple[Attribute, ...]:
        """Result types from operand types and properties. Raises VerifyException naming both sides."""

    @classmethod
    def build_op(cls, *operands: SSAValue, hint: str | None = None, **properties: Any) -> Self:
        """Make the op. Properties are Python values or attributes; `hint` names the first result."""
        props = {name: attr(value) for name, value in properties.items()}
        results = cls.infer(*(operand.type for operand in operands), **props)
        op = cls.create(operands=operands, result_types=results, properties=props)
        if hint and op.results:
            op.results[0].name_hint = hint
        return op

    def verify_(self) -> None:
        expected = self.infer(*(operand.type for operand in self.operands), **self.properties)
        found = tuple(result.type for result in self.results)
        if expected != found:
            raise VerifyException(
                f"{self.name}: results are {', '.join(map(str, expected))}, got {', '.join(map(str, found))}"
            )

    def reference(self, *operands: Any) -> tuple[Any, ...]:
        """The op's meaning on numpy arrays: one result each. Raises when the op has none of its own."""
        raise InternalError(f"{self.name} has no reference of its own")

    def cost(self) -> "Cost":
        """Work of one execution over every row of its types."""
        n_bytes = sum(type_bytes(value.type) for value in (*self.operands, *self.results))
        return Cost(flops=0, n_bytes=n_bytes)


class Named(IRDLOperation, ABC):
    """Stands for, or calls, what is called `symbol` elsewhere."""

    symbol = prop_def(SymbolRefAttr)

    @property
    def symbol_name(self) -> str:
        """The symbol's text, without the `@`."""
        return self.symbol.root_reference.data


@dataclass(frozen=True)
class Cost:
    """Floating-point operations, and bytes read and written."""

    flops: int
    n_bytes: int


def type_bytes(of: Attribute) -> int:
    """Bytes a value of type `of` occupies; 0 for scalars."""
    from ck.ir.types import ActivationType, CacheType, WeightType, shape

    if isinstance(of, WeightType):
        n_out, n_in = of.get_shape()
        if of.layout.data == "r16":
            return of.row.matrix_packed_bytes(n_out, n_in)
        return n_out * of.row.row_bytes(n_in)
    if isinstance(of, ActivationType):
        return of.get_shape()[0] * of.row_bytes
    if isinstance(of, CacheType):
        return of.n_bytes
    try:
        sizes = shape(of)
    except VerifyException:
        return 0
    element = getattr(of, "element_type", f32)
    return int(np.prod(sizes, dtype=np.int64)) * getattr(element, "size", 4)


class RowWise(ABC):
    """Each output row depends on the same row of the operands alone: fused into generated loops."""

    @abstractmethod
    def lower_row(self, b: Any, *operands: Any) -> tuple[Any, ...]:
        """Row values of the results from row values of the operands; `b` is a ck.ir.rows.RowBuilder."""


class Live(Enum):
    """What a kernel call may take beside values."""

    N = "the live count"


@dataclass(frozen=True)
class KernelCall:
    """A runtime kernel: its symbol, the immediates in the order of its C prototype, and how threads share it.

    `split` is "rows" (a thread's rows of every operand are its own) or "cols" (a thread may read any row).
    `outs` and `ins` are the op's values in the order of the prototype; where they are not given, the kernel
    takes the op's results, then its operands, then the live count unless an operand is an index.
    """

    symbol: str
    immediates: Mapping[str, int | float] = field(default_factory=dict[str, int | float])
    split: str = "cols"
    outs: Sequence[SSAValue] | None = None
    ins: Sequence[SSAValue | Live] = ()


class KernelOp(ABC):
    """Lowered to one call of a hand-written kernel of runtime_c/kernels."""

    KERNELS: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        """Do what kernel `symbol` does, by the op's `reference`: fill the live rows of `outs` from `ins`.

        Buffers are numpy arrays, weights f32 matrices, caches pairs of arrays, scalars ints. `KERNELS` lists
        the beginnings of the symbols it answers for.
        """
        raise InternalError(f"{symbol} has no emulation")

    @abstractmethod
    def kernels(self) -> Sequence[KernelCall]:
        """The calls that compute this op, in order.

        Calls that name no values are one, or one for each result when there are several.
        """


class Product(Operation):
    """Multiplies the rows of operand 0 with the weights after it: quantised weights take quantised rows.

    The attribute `compute`, written by ck-assign-precision, is the type its factors are rounded to.
    """

    @property
    def compute(self) -> str:
        """f32, or bf16: both factors rounded to it, the sums in f32 as ever."""
        found = self.attributes.get("compute")
        return found.data if isinstance(found, StringAttr) else "f32"


def to_bf16(x: Array) -> Array:
    """`x` with every value rounded to the nearest bf16, ties to even: f32, or x's own type when wider."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, rounded.view(np.float32)).astype(x.dtype)


class InPlace:
    """The first result may overwrite operand `IN_PLACE_OPERAND` when that operand has no later use."""

    IN_PLACE_OPERAND: ClassVar[int] = 0


class AcrossRows:
    """Looks at all live rows at once: the interpreter hands its `reference` the live rows alone."""


def is_state(value: SSAValue) -> bool:
    """Whether `value` outlives the call: a `ck.weight`, or the new value that an op gave one."""
    if not isinstance(value, OpResult):
        return False
    if isinstance(value.op, Updates):
        return any(new is value and is_state(old) for new, old in value.op.updated)
    return isinstance(value.op, CkOp) and value.op.IS_STATE


RECOMPUTED = "ck.recomputed"


def is_recomputed(op: Operation) -> bool:
    """Whether `op` does again in the backward pass what the forward pass has done."""
    return RECOMPUTED in op.attributes


class Updates(Operation):
    """Some results are operands' new values, written over the old ones."""

    @property
    def updated(self) -> Sequence[tuple[SSAValue, SSAValue]]:
        """Each such result with the operand it overwrites."""
        raise InternalError(f"{self.name} does not say what it overwrites")


class Accumulates(Updates):
    """Adds its result `ACCUMULATED` to its last operand, in place, where that optional operand is given."""

    ACCUMULATED: ClassVar[int] = 0

    @property
    def accumulator(self) -> SSAValue | None:
        """The value it adds to; None when the result is fresh."""
        raise InternalError(f"{self.name} does not say what it adds to")

    @property
    def updated(self) -> Sequence[tuple[SSAValue, SSAValue]]:
        into = self.accumulator
        return () if into is None else ((self.results[self.ACCUMULATED], into),)

    def with_accumulator(self, value: SSAValue) -> Self:
        """The same op, adding to `value`."""
        made = self.create(
            operands=[*self.operands, value],
            result_types=self.result_types,
            properties=self.properties,
            attributes=self.attributes,
        )
        for old, new in zip(self.results, made.results, strict=True):
            new.name_hint = old.name_hint
        return made


class WritesStates(MemoryEffect):
    """A trait of an `Updates`: it writes to the states among the operands that it updates, nothing else."""

    @classmethod
    def get_effects(cls, op: Operation) -> frozenset[EffectInstance]:
        assert isinstance(op, Updates)
        return frozenset(
            EffectInstance(MemoryEffectKind.WRITE, operand) for _, operand in op.updated if is_state(operand)
        )


class Differentiable(ABC):
    """Has a reverse-mode rule."""

    @abstractmethod
    def vjp(self, b: Any, *cotangents: Any) -> Sequence[SSAValue | None]:
        """Cotangents of the operands (None where no gradient flows) from those of the results.

        The cotangent of a result that nothing depends on is None; one result at least has one.
        """
