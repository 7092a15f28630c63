"""Programs written by hand, small enough to read."""

from collections.abc import Mapping
from typing import Any

from xdsl.ir import Attribute

from ck.ir.op import CkOp
from tests.graphs.inference import Inference
from tests.graphs.program import Graph, Node
from tests.graphs.train import HYPERS, Training


def node(kind: type[CkOp], wiring: str, **properties: Any) -> Node:
    """An op from "operand operand -> result"."""
    operands, result = wiring.split(" -> ")
    return Node(kind, tuple(operands.split()), result, tuple(properties.items()))


def graph(width: int, leaves: Mapping[str, Attribute], nodes: list[Node], *results: str) -> Graph:
    """A graph over x [T, width]."""
    return Graph(("x", "n"), width, 2, tuple(leaves.items()), tuple(nodes), results)


def inference(of: Graph) -> Inference:
    """`of` on two rows of three, then on one."""
    return Inference(of, 3, (("prefill", 2), ("decode", 1)), 0, 0, "plain")


def training(of: Graph, **options: Any) -> Training:
    """`of` with all its weights trained, on a document of two rows of three."""
    known = {"budget": 1.0, "dtype": "f32", "optimizer": "adamw", "decay": "all", **options}
    weights = tuple(of.weights)
    return Training(of, 3, weights, tuple(known.items()), (), ((2,),), HYPERS[0], 1, 0, "plain")
