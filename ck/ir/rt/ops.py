"""The `rt` dialect: buffers, and the calls that fill them, in execution order.

    %w = rt.weight @blk.0.attn_q : !ck.q<576x576xq4_1, r16>       where the runtime keeps a packed weight
    %kv = rt.cache @blk.0.kv : !ck.kv<3x4096x64xf16>              and a cache
    %b = rt.alloc : memref<1x576xf32>                             a buffer, before memory is planned
    %a = rt.arena : memref<4096xi8>                               all buffers, after
    %v = rt.view %a[128] : memref<4096xi8> -> memref<1x576xf32>   bytes 128.. of a buffer, under other sizes
    rt.call @ck_quantize_rows outs(%q : ...) ins(%x, %n : ...) {immediates = {k = 576}, split = "rows"}
    rt.launch @rms_norm outs(%y : ...) ins(%x, %w : ...) live(%n) {rows_per_token = 1}
    rt.barrier                                                    every thread has come this far
    rt.repeat @layer(%arena, %n, %pos) table [[@blk.0.attn_q, 0], [@blk.1.attn_q, 0]]

Every thread runs the whole list and does its own slice of each call: slice `tid` of `nth` by rows of tokens
("rows"), or by the kernel's own division ("cols"). A kernel of runtime_c takes its outputs, inputs and
immediates in the order written, then tid and nth; a generated function takes inputs, outputs, and its first
and last row.
"""

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IndexType,
    IntegerAttr,
    MemRefType,
    StringAttr,
    SymbolRefAttr,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.errors import InternalError
from ck.ir.op import Named, attr, type_bytes
from ck.ir.types import KvType, StateType, WeightType


class RtOp(IRDLOperation):
    """Base of all `rt` ops."""


@irdl_op_definition
class WeightOp(RtOp, Named):
    name = "rt.weight"
    value = result_def(WeightType | MemRefType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$symbol attr-dict `:` type($value)"


@irdl_op_definition
class CacheOp(RtOp, Named):
    name = "rt.cache"
    value = result_def(KvType | StateType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$symbol attr-dict `:` type($value)"


@irdl_op_definition
class AllocOp(RtOp):
    name = "rt.alloc"
    buffer = result_def(MemRefType)
    assembly_format = "attr-dict `:` type($buffer)"


@irdl_op_definition
class ArenaOp(RtOp):
    name = "rt.arena"
    buffer = result_def(MemRefType)
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($buffer)"


@irdl_op_definition
class ViewOp(RtOp):
    name = "rt.view"
    source = operand_def(MemRefType)
    offset = prop_def(IntegerAttr)
    buffer = result_def(MemRefType)
    traits = traits_def(Pure())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$source `[` $offset `]` attr-dict `:` type($source) `->` type($buffer)"

    @staticmethod
    def at(source: SSAValue, offset: int, of: Attribute) -> "ViewOp":
        """Bytes from `offset` on of `source`, as a buffer of type `of`."""
        return ViewOp.create(
            operands=[source], result_types=[of], properties={"offset": IntegerAttr(offset, i64)}
        )

    @property
    def offset_bytes(self) -> int:
        return self.offset.value.data

    def verify_(self) -> None:
        if self.offset_bytes + type_bytes(self.buffer.type) > type_bytes(self.source.type):
            raise VerifyException(
                f"rt.view: bytes {self.offset_bytes}..{self.offset_bytes + type_bytes(self.buffer.type)} "
                f"are not in {self.source.type}"
            )


@irdl_op_definition
class ViewAtOp(RtOp):
    """A view whose offset is a run-time value: a column of a `rt.repeat` table."""

    name = "rt.view_at"
    source = operand_def(MemRefType)
    offset = operand_def(IndexType)
    buffer = result_def(MemRefType)
    traits = traits_def(Pure())
    assembly_format = "$source `[` $offset `]` attr-dict `:` type($source) `->` type($buffer)"


class Work(RtOp, Named):
    """A call that reads `ins` and writes `outs`."""

    @property
    def writes(self) -> Sequence[SSAValue]:
        """The buffers and caches it fills."""
        raise InternalError(f"{self.name} does not say what it writes")

    @property
    def reads(self) -> Sequence[SSAValue]:
        """The operands it takes, scalars included."""
        raise InternalError(f"{self.name} does not say what it reads")

    @property
    def split_rows(self) -> bool:
        """Whether a thread touches only its tokens' rows of every buffer that has rows."""
        raise InternalError(f"{self.name} does not say how it is split")


@irdl_op_definition
class CallOp(Work):
    name = "rt.call"
    outs = var_operand_def()
    ins = var_operand_def()
    immediates = prop_def(DictionaryAttr)
    split = prop_def(StringAttr)
    irdl_options = (AttrSizedOperandSegments(as_property=True), ParsePropInAttrDict())
    assembly_format = (
        "$symbol `outs` `(` $outs `:` type($outs) `)` `ins` `(` $ins `:` type($ins) `)` attr-dict"
    )

    @staticmethod
    def of(
        symbol: str,
        outs: Sequence[SSAValue],
        ins: Sequence[SSAValue],
        immediates: dict[str, int | float],
        split: str,
    ) -> "CallOp":
        """A call of kernel `symbol`."""
        values = DictionaryAttr({name: attr(value) for name, value in immediates.items()})
        return CallOp(
            operands=[list(outs), list(ins)],
            properties={
                "symbol": SymbolRefAttr(symbol),
                "immediates": values,
                "split": StringAttr(split),
            },
        )

    @property
    def writes(self) -> Sequence[SSAValue]:
        return tuple(self.outs)

    @property
    def reads(self) -> Sequence[SSAValue]:
        return tuple(self.ins)

    @property
    def split_rows(self) -> bool:
        return self.split.data == "rows"

    def verify_(self) -> None:
        if self.split.data not in ("rows", "cols"):
            raise VerifyException(f"rt.call: split is rows or cols, got {self.split.data}")


@irdl_op_definition
class LaunchOp(Work):
    name = "rt.launch"
    outs = var_operand_def()
    ins = var_operand_def()
    live = operand_def(IndexType)
    rows_per_token = prop_def(IntegerAttr)
    irdl_options = (AttrSizedOperandSegments(as_property=True), ParsePropInAttrDict())
    assembly_format = (
        "$symbol `outs` `(` $outs `:` type($outs) `)` `ins` `(` $ins `:` type($ins) `)` "
        "`live` `(` $live `)` attr-dict"
    )

    @staticmethod
    def of(
        symbol: str, outs: Sequence[SSAValue], ins: Sequence[SSAValue], live: SSAValue, rows_per_token: int
    ) -> "LaunchOp":
        """A launch of generated function `symbol` over `live * rows_per_token` rows."""
        return LaunchOp(
            operands=[list(outs), list(ins), live],
            properties={
                "symbol": SymbolRefAttr(symbol),
                "rows_per_token": IntegerAttr(rows_per_token, i64),
            },
        )

    @property
    def writes(self) -> Sequence[SSAValue]:
        return tuple(self.outs)

    @property
    def reads(self) -> Sequence[SSAValue]:
        return tuple(self.ins)

    @property
    def split_rows(self) -> bool:
        return True


@irdl_op_definition
class BarrierOp(RtOp):
    name = "rt.barrier"
    assembly_format = "attr-dict"


@irdl_op_definition
class RepeatOp(RtOp, Named):
    """Call function `symbol` once a row of `table`: its arguments are `shared`, then the row's entries."""

    name = "rt.repeat"
    shared = var_operand_def()
    table = prop_def(ArrayAttr[ArrayAttr[Attribute]])
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$symbol `(` $shared `:` type($shared) `)` `table` $table attr-dict"

    @property
    def rows(self) -> list[list[Attribute]]:
        """The table as Python lists."""
        return [list(row) for row in self.table]

    def verify_(self) -> None:
        widths = {len(row) for row in self.rows}
        if len(widths) != 1:
            raise VerifyException("rt.repeat: the table is a non-empty list of equally long rows")


RT_OPS: tuple[type[Operation], ...] = (
    WeightOp,
    CacheOp,
    AllocOp,
    ArenaOp,
    ViewOp,
    ViewAtOp,
    CallOp,
    LaunchOp,
    BarrierOp,
    RepeatOp,
)
