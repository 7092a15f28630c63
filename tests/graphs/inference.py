"""Random inference programs: @prefill and @decode of one graph on the same weights and caches, and calls.

Attention is over caches, rings among them: the calls begin at any position, those before it are kept.
"""

from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import ModuleOp, StringAttr

from ck.ir.ops.attention import AttentionOp
from ck.ir.ops.causal_conv1d import CausalConv1dOp
from ck.ir.ops.delta_rule import DeltaRuleOp
from ck.ir.ops.kv_append import KvAppendOp
from ck.ir.types import KvType, StateType, shape
from ck.passes.assign_layouts import ACTIVATIONS_ATTRIBUTE
from tests.graphs.drawing import TAPS, Choose, Drawing, Value
from tests.graphs.program import Graph, function
from tests.graphs.recurrent import draw_rule

ROWS = (1, 2, 3, 4, 5, 7, 8, 9)
WINDOWS = (0, 1, 2, 5, 50, 1000)
SCALES = (1.0, 0.25, 0.17677669, -0.5)
# Query heads, key/value heads.
HEADS = ((1, 1), (2, 1), (2, 2), (3, 1), (6, 3), (4, 2))
FIRST_POSITIONS = (0, 1, 59, 63, 64, 127, 130, 300)
STYLES = ("plain", "zeros", "large", "tiny")


@dataclass(frozen=True)
class Inference:
    """A program and what it is run on.

    rows    capacity of @prefill
    calls   entries in order, with the live rows of each
    first   the position of the first call's first row
    seed    of weights and rows
    style   what rows are like
    """

    graph: Graph
    rows: int
    calls: tuple[tuple[str, int], ...]
    first: int
    seed: int
    style: str

    def module(self) -> ModuleOp:
        """The program's `ck` ops, verified."""
        module = ModuleOp([function(self.graph, "prefill", self.rows), function(self.graph, "decode", 1)])
        module.attributes[ACTIVATIONS_ATTRIBUTE] = StringAttr(self.activations)
        module.verify()
        return module

    @property
    def activations(self) -> str:
        """How products of quantised weights take their rows: every third program of 8 bits."""
        return "q8" if self.seed % 3 == 0 else "q16"


def draw_inference(choose: Choose) -> Inference:
    """An inference program."""
    rows = choose(ROWS)
    drawing = InferenceDrawing(choose, rows)
    drawing.steps()
    extra = ("pos",) if choose((False, True)) else ()
    graph = drawing.graph(extra)
    calls = [("prefill", choose(range(1, rows + 1))) for _ in range(choose((1, 2)))]
    if choose((True, True, False)):
        calls.append(("decode", 1))
    last = max(FIRST_POSITIONS) if drawing.end is None else drawing.end - sum(n for _, n in calls)
    first = choose([pos for pos in FIRST_POSITIONS if pos <= last])
    return Inference(graph, rows, tuple(calls), first, choose(range(100)), choose(STYLES))


class InferenceDrawing(Drawing):
    """The body of an inference program of so many rows."""

    def __init__(self, choose: Choose, rows: int) -> None:
        self.rows = rows
        # Positions there may be at most; None where every cache is a ring.
        self.end: int | None = None
        super().__init__(choose)

    def attend(self) -> None:
        """Attention over a cache of its own, now and then of two readers."""
        x = self.pick(rows=True)
        (heads, kv_heads), head_dim = self.choose(HEADS), self.choose((16, 32, 48))
        q = self.rows_of(x, heads * head_dim)
        k, v = (self.rows_of(x, kv_heads * head_dim) for _ in range(2))
        if self.choose((False, True, True)):
            q, k = self.turned(q, heads), self.turned(k, kv_heads)
        dtype, capacity = self.choose(("f32", "f16")), self.choose((64, 128))
        name = self.fresh(KvType.of(kv_heads, capacity, head_dim, dtype), "kv")
        n, pos = self._input("n"), self._input("pos")
        kept = self.add(KvAppendOp, name, k.name, v.name, n, pos)
        self._read(q, kept, heads, capacity)
        if self.choose((False, False, True)):
            self._read(self.rows_of(x, heads * head_dim), kept, heads, capacity)

    def convolve(self) -> None:
        x, taps = self.pick(rows=True), self.choose(TAPS)
        w = self.matrix(x.columns, taps, self.choose(("f32", "f16", "bf16")))
        state = self.fresh(StateType.of(taps - 1, x.columns), "state")
        n, pos = self._input("n"), self._input("pos")
        self.keep(self.add(CausalConv1dOp, state, x.name, w, n, pos), 1, x.columns)

    def recall(self) -> None:
        names, properties, sizes = draw_rule(self, self.pick(rows=True))
        state = self.fresh(StateType.of(*sizes), "state")
        n, pos = self._input("n"), self._input("pos")
        self.keep(self.add(DeltaRuleOp, state, *names, n, pos, **properties), 1, sizes[0] * sizes[2])

    def _read(self, q: Value, kept: str, heads: int, capacity: int) -> None:
        window, scale = self.choose(WINDOWS), self.choose(SCALES)
        n, pos = self._input("n"), self._input("pos")
        properties: dict[str, Any] = {"heads": heads, "scale": scale, "window": window}
        self.keep(self.add(AttentionOp, q.name, kept, n, pos, **properties), 1, q.columns)
        if not window or window + self.rows > capacity:
            self.end = min(capacity, self.end or capacity)


def capacity_of(of: KvType) -> int:
    """Positions that a cache holds."""
    return shape(of)[1]
