"""Ways that make values smaller: fewer rows, columns or heads, a smaller arena.

A size goes down everywhere at once, in types and in the numbers that ops carry. What does not fit together
then is for the verifier to say, by the ops' `infer`.
"""

from collections.abc import Callable, Iterable, Sequence

from xdsl.dialects.builtin import IntegerAttr, MemRefType, ModuleOp, TensorType, i8
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import Rewriter
from xdsl.utils.hints import isa

from ck.ir.op import attr, type_bytes
from ck.ir.reduce.way import Target, Way, functions
from ck.ir.rt.ops import ArenaOp, RtOp, ViewAtOp, ViewOp
from ck.ir.types import ActivationType, CacheType, KvType, StateType, WeightType, is_buffer, is_tensor

# What a size may become, beside its half and its quarter: the least, an odd one, blocks of storage types.
_SMALL = (1, 2, 3, 16, 32, 64)


class ShrinkSizes(Way):
    """(size, smaller size) pairs. Where `multiples` is set, the rows of tensors that are multiples follow."""

    by_chunks = False

    def __init__(self, multiples: bool) -> None:
        self.name = "rows" if multiples else "sizes"
        self._multiples = multiples

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        if any(isinstance(op, RtOp) for op in module.walk()):
            return []
        found = {size for value in _values(module) for size in _sizes(value.type)}
        return [
            (size, less)
            for size in sorted(found, reverse=True)
            for less in sorted({*_SMALL, size // 2, size // 4} - {0})
            if less < size
        ]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        ((size, less),) = chosen
        scale = _scaled(size, less) if self._multiples else _swapped(size, less)
        for op in module.walk():
            for name, value in op.properties.items():
                if isa(value, IntegerAttr) and value == attr(value.value.data):
                    op.properties[name] = attr(scale(value.value.data))
        _retype(module, lambda of: _resized(of, scale, self._multiples))


def _swapped(size: int, less: int) -> Callable[[int], int]:
    return lambda given: less if given == size else given


def _scaled(size: int, less: int) -> Callable[[int], int]:
    return lambda given: given // size * less if given % size == 0 else given


def _values(module: ModuleOp) -> Iterable[SSAValue]:
    for op in module.walk():
        yield from op.results
        for region in op.regions:
            for block in region.blocks:
                yield from block.args


def _sizes(of: Attribute) -> tuple[int, ...]:
    if is_tensor(of) or isinstance(of, WeightType | ActivationType | CacheType):
        return of.get_shape()
    return ()


def _resized(of: Attribute, scale: Callable[[int], int], rows_alone: bool) -> Attribute:
    """`of` with each size scaled; with `rows_alone` only the rows of tensors."""
    if is_tensor(of):
        rows, *others = of.get_shape() or (0,)
        return TensorType(of.element_type, [scale(rows), *(others if rows_alone else map(scale, others))])
    if isinstance(of, ActivationType):
        rows, columns = of.get_shape()
        return type(of).of((scale(rows), columns if rows_alone else scale(columns)))
    if isinstance(of, WeightType) and not rows_alone:
        return WeightType.of([scale(n) for n in of.get_shape()], of.storage.data, of.layout.data)
    if isinstance(of, KvType) and not rows_alone:
        heads, capacity, head_dim = map(scale, of.get_shape())
        return KvType.of(heads, capacity, head_dim, of.dtype_name)
    if isinstance(of, StateType) and not rows_alone:
        return StateType.of(*map(scale, of.get_shape()))
    return of


def _retype(module: ModuleOp, new: Callable[[Attribute], Attribute]) -> None:
    for value in list(_values(module)):
        if new(value.type) != value.type:
            Rewriter.replace_value_with_new_type(value, new(value.type))
    for function in functions(module):
        function.update_function_type()


class ShrinkArena(Way):
    """Bytes of the arena that no view reaches."""

    name = "arena"
    by_chunks = False

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        ops = list(module.walk())
        if not any(isinstance(op, ArenaOp) for op in ops) or any(isinstance(op, ViewAtOp) for op in ops):
            return []
        return [(max((_end(op) for op in ops if isinstance(op, ViewOp)), default=1),)]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        arenas = {op.buffer.type for op in module.walk() if isinstance(op, ArenaOp)}
        ((n_bytes,),) = chosen
        _retype(module, lambda of: MemRefType(i8, [n_bytes]) if of in arenas else of)


def _end(view: Operation) -> int:
    assert isinstance(view, ViewOp)
    return view.offset_bytes + type_bytes(view.buffer.type) if is_buffer(view.source.type) else 0
