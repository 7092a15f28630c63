"""A program as data: what is drawn, what shrinks, and what becomes a module of `ck` ops.

Values have names. Sizes are rows a token and columns, never the capacity, so that one graph has entries of
any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.builder import Builder, InsertPoint
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, IndexType, UnitAttr
from xdsl.ir import Attribute, Block, Region, SSAValue

from ck.ir.op import CkOp
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rope_table import RopeTableOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import CacheType, tensor
from tests.ops.case import ids


@dataclass(frozen=True)
class Node:
    """An op: the names of its operands and of its first result, its properties, and the other results' names.

    Results without a name are read by gradients alone.
    """

    kind: type[CkOp]
    operands: tuple[str, ...]
    result: str
    properties: tuple[tuple[str, Any], ...] = ()
    others: tuple[str, ...] = ()

    @property
    def results(self) -> tuple[str, ...]:
        """The names of its results."""
        return (self.result, *self.others)


@dataclass(frozen=True)
class Graph:
    """The body of an entry.

    inputs   names of its arguments in order: x, tokens, targets, positions, starts, n, pos
    width    columns of x
    n_vocab  ids that tokens and targets may be
    leaves   types of the weights and caches that nodes name
    results  names of the values it returns
    """

    inputs: tuple[str, ...]
    width: int
    n_vocab: int
    leaves: tuple[tuple[str, Attribute], ...]
    nodes: tuple[Node, ...]
    results: tuple[str, ...]

    @property
    def weights(self) -> dict[str, Attribute]:
        """The leaves that are weights."""
        return {name: of for name, of in self.leaves if not isinstance(of, CacheType)}

    @property
    def caches(self) -> dict[str, CacheType]:
        """The leaves that are caches."""
        return {name: of for name, of in self.leaves if isinstance(of, CacheType)}

    def feeding(self, results: Sequence[str]) -> set[str]:
        """Names of all that `results` depend on."""
        wanted = set(results)
        for node in reversed(self.nodes):
            if wanted.intersection(node.results):
                wanted.update(node.operands)
        return wanted


def input_types(graph: Graph, rows: int) -> dict[str, Attribute]:
    """The arguments of an entry for up to `rows` tokens."""
    known = {
        "x": tensor(rows, graph.width),
        "tokens": ids(rows),
        "targets": ids(rows),
        "positions": tensor(rows, 1),
        "starts": ids(rows),
        "n": IndexType(),
        "pos": IndexType(),
    }
    return {name: known[name] for name in graph.inputs}


def function(graph: Graph, name: str, rows: int) -> func.FuncOp:
    """The entry `name` for up to `rows` tokens. A leaf stands in front of its first reader."""
    inputs = input_types(graph, rows)
    block = Block(arg_types=list(inputs.values()))
    for arg, hint in zip(block.args, inputs, strict=True):
        arg.name_hint = hint
    builder = Builder(InsertPoint.at_end(block))
    known: dict[str, SSAValue] = dict(zip(inputs, block.args, strict=True))
    leaves = dict(graph.leaves)
    for node in graph.nodes:
        for operand in node.operands:
            if operand not in known:
                known[operand] = _leaf(builder, operand, leaves)
        made = builder.insert(_op(node, [known[operand] for operand in node.operands], rows))
        for result, value in zip(node.results, made.results, strict=False):
            value.name_hint = result
            known[result] = value
    returned = [known[result] for result in graph.results]
    builder.insert(func.ReturnOp(*returned))
    of = FunctionType.from_lists(list(inputs.values()), [value.type for value in returned])
    entry = func.FuncOp(name, of, Region(block))
    entry.attributes["ck.entry"] = UnitAttr()
    return entry


def _leaf(builder: Builder, name: str, leaves: Mapping[str, Attribute]) -> SSAValue:
    of = leaves[name]
    made = CacheOp.of(name, of) if isinstance(of, CacheType) else WeightOp.of(name, of)
    return builder.insert(made).results[0]


def _op(node: Node, operands: Sequence[SSAValue], rows: int) -> CkOp:
    properties = dict(node.properties)
    if node.kind is ReshapeOp:
        return ReshapeOp.to(operands[0], rows * properties["per_token"], properties["columns"])
    if node.kind is RopeTableOp:
        properties["rows"] = rows
    return node.kind.build_op(*operands, **properties)
