"""What a function of any form of a program reads and writes beyond its results: weights, and its arguments.

Tensors are written by the ops that update them, buffers by calls; a `rt.repeat` calls its layer function with
each row of its table.
"""

from collections.abc import Iterator

from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, SymbolRefAttr, i32
from xdsl.ir import Attribute, Block, Operation, SSAValue

from ck.ir.evaluate import find_function
from ck.ir.op import Updates, is_state
from ck.ir.ops.weight import WeightOp
from ck.ir.rt import ops as rt
from ck.ir.types import CacheType, WeightType, is_buffer, is_tensor


def weights_of(module: ModuleOp) -> dict[str, Attribute]:
    """The type of every weight of `module`, by name."""
    found: dict[str, Attribute] = {}
    for op in module.walk():
        if isinstance(op, WeightOp | rt.WeightOp):
            found.setdefault(op.symbol_name, op.value.type)
        elif isinstance(op, rt.RepeatOp):
            for name, column in _named(module, op):
                if not isinstance(column.type, CacheType):
                    found.setdefault(name, column.type)
    return found


def caches_of(module: ModuleOp) -> dict[str, CacheType]:
    """The type of every cache of `module`, by name."""
    found: dict[str, CacheType] = {}
    for op in module.walk():
        if op.name in ("ck.cache", "rt.cache") and isinstance(op.results[0].type, CacheType):
            symbol = op.properties["symbol"]
            assert isinstance(symbol, SymbolRefAttr)
            found[symbol.root_reference.data] = op.results[0].type
        elif isinstance(op, rt.RepeatOp):
            columns = _named(module, op)
            found |= {name: column.type for name, column in columns if isinstance(column.type, CacheType)}
    return found


def _named(module: ModuleOp, op: rt.RepeatOp) -> Iterator[tuple[str, SSAValue]]:
    """Each name in the table of a repeat, with the argument of the layer that stands for it."""
    for row in op.rows:
        for entry, column in zip(row, _columns(module, op), strict=True):
            if isinstance(entry, SymbolRefAttr):
                yield entry.root_reference.data, column


def _columns(module: ModuleOp, op: rt.RepeatOp) -> list[SSAValue]:
    return list(find_function(module, op.symbol_name).body.block.args[len(op.shared) :])


def written_weights(module: ModuleOp, function: func.FuncOp) -> list[str]:
    """Names of the weights that `function` writes."""
    found: set[str] = set()
    for op in function.body.block.ops:
        if isinstance(op, Updates):
            found |= {_name(old) for _, old in op.updated if is_state(old)}
        elif isinstance(op, rt.Work):
            owners = (value.owner for value in op.writes)
            found |= {owner.symbol_name for owner in owners if isinstance(owner, rt.WeightOp)}
        elif isinstance(op, rt.RepeatOp):
            layer = find_function(module, op.symbol_name)
            found |= set(written_weights(module, layer))
            written = {value for work in _works(layer.body.block) for value in work.writes}
            found |= {
                name for name, column in _named(module, op) if column in written and not _is_cache(column)
            }
    return sorted(found)


def _is_cache(value: SSAValue) -> bool:
    return isinstance(value.type, CacheType)


def _name(state: SSAValue) -> str:
    """The weight whose new value `state` is."""
    owner = state.owner
    if isinstance(owner, Updates):
        return _name(next(old for new, old in owner.updated if new is state))
    assert isinstance(owner, WeightOp)
    return owner.symbol_name


def _works(block: Block) -> Iterator[rt.Work]:
    return (op for op in block.ops if isinstance(op, rt.Work))


def first_touches(module: ModuleOp, block: Block) -> dict[SSAValue, str]:
    """For each buffer argument of `block` that a call touches: whether the first one reads or writes it."""
    found: dict[SSAValue, str] = {}
    for op in block.ops:
        for value, touch in _touches(module, op):
            found.setdefault(_root(value), touch)
    return {value: touch for value, touch in found.items() if value.owner is block}


def written_arguments(module: ModuleOp, block: Block) -> set[SSAValue]:
    """The buffer arguments of `block` that some call writes."""
    touches = (pair for op in block.ops for pair in _touches(module, op))
    return {_root(value) for value, touch in touches if touch == "writes"}


def _touches(module: ModuleOp, op: Operation) -> Iterator[tuple[SSAValue, str]]:
    """The buffers that an op reads, then those that it writes."""
    if isinstance(op, rt.Work):
        yield from ((value, "reads") for value in op.reads if is_buffer(value.type))
        yield from ((value, "writes") for value in op.writes if is_buffer(value.type))
    elif isinstance(op, rt.RepeatOp):
        layer = find_function(module, op.symbol_name).body.block
        first, written = first_touches(module, layer), written_arguments(module, layer)
        for value, argument in zip(op.shared, layer.args, strict=False):
            if argument in first:
                yield value, first[argument]
            if argument in written:
                yield value, "writes"


def _root(value: SSAValue) -> SSAValue:
    while isinstance(value.owner, rt.ViewOp | rt.ViewAtOp):
        value = value.owner.source
    return value


def read_by_id(module: ModuleOp) -> dict[str, Attribute]:
    """The matrices whose rows stand for ids: those beside whole numbers among an op's operands."""
    found: dict[str, Attribute] = {}
    for op in module.walk():
        if any(_is_ids(value) for value in op.operands):
            found |= {owner.symbol_name: owner.value.type for owner in _matrices(op)}
    return found


def multiplied(module: ModuleOp) -> set[str]:
    """The matrices that an op takes without ids, or a layer of a repeat takes."""
    found: set[str] = set()
    for op in module.walk():
        if not any(_is_ids(value) for value in op.operands):
            found |= {owner.symbol_name for owner in _matrices(op)}
        if isinstance(op, rt.RepeatOp):
            found |= {name for name, _ in _named(module, op)}
    return found


def _matrices(op: Operation) -> Iterator[WeightOp | rt.WeightOp]:
    for value in op.operands:
        if isinstance(value.type, WeightType) and isinstance(value.owner, WeightOp | rt.WeightOp):
            yield value.owner


def _is_ids(value: SSAValue) -> bool:
    """Whether `value` stands for rows of a table; where documents start does not."""
    of = value.type
    return (is_tensor(of) or is_buffer(of)) and of.element_type == i32 and value.name_hint != "starts"
