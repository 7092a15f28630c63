"""Random training programs: @train_step of one graph on packed documents, and how it is to be trained."""

from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, SymbolRefAttr

from ck.ir.op import attr
from ck.ir.ops.cross_entropy import CrossEntropyOp
from ck.ir.ops.packed_attention import PackedAttentionOp
from ck.ir.ops.packed_conv1d import PackedConv1dOp
from ck.ir.ops.packed_delta_rule import PackedDeltaRuleOp
from ck.ir.types import trained
from ck.runtime.trainable import Hyper
from tests.graphs.drawing import TAPS, Choose, Drawing
from tests.graphs.inference import HEADS, ROWS, SCALES, STYLES
from tests.graphs.program import Graph, function
from tests.graphs.recurrent import draw_rule

WINDOWS = (0, 1, 2, 3, 50)
HYPERS = (
    Hyper(lr=1e-2, max_grad_norm=0.5),
    Hyper(lr=1e-3, max_grad_norm=0.0, weight_decay=0.0),
    Hyper(lr=0.3, beta1=0.0, beta2=0.5, momentum=0.5, max_grad_norm=1e3, weight_decay=0.5),
)


@dataclass(frozen=True)
class Training:
    """A program and what it is run on.

    rows       capacity of a micro-batch
    learned    weights that are trained
    options    what `ck.training` says, but for toward_one
    ones       weights that decay draws to 1
    batches    the lengths of each micro-batch's documents
    update     number of the update; before the first the states are zero
    """

    graph: Graph
    rows: int
    learned: tuple[str, ...]
    options: tuple[tuple[str, Any], ...]
    ones: tuple[str, ...]
    batches: tuple[tuple[int, ...], ...]
    hyper: Hyper
    update: int
    seed: int
    style: str

    def option(self, name: str) -> Any:
        """What `ck.training` says under `name`."""
        return dict(self.options)[name]

    def module(self) -> ModuleOp:
        """The program's `ck` ops, verified, and what passes are to choose."""
        step, evaluation = (function(self.graph, name, self.rows) for name in ("train_step", "eval"))
        step.attributes["ck.trainable"] = _symbols(self.learned)
        module = ModuleOp([step, evaluation])
        choices = {name: attr(value) for name, value in self.options}
        module.attributes["ck.training"] = DictionaryAttr({**choices, "toward_one": _symbols(self.ones)})
        module.verify()
        return module


def _symbols(names: tuple[str, ...]) -> ArrayAttr[SymbolRefAttr]:
    return ArrayAttr([SymbolRefAttr(name) for name in names])


def draw_training(choose: Choose) -> Training:
    """A training program."""
    rows = choose(ROWS)
    drawing = _Training(choose)
    drawing.steps()
    graph = drawing.graph()
    fed = graph.feeding(graph.results)
    weights = [name for name in graph.weights if name in fed and not name.startswith("freq")]
    learned = weights if choose((True, True, False)) else [choose(weights)]
    options = {
        "budget": choose((1.0, 0.0, 0.5)),
        "dtype": choose(("f32", "f32", "bf16")),
        "optimizer": choose(("adamw", "sgd")),
        "decay": choose(("matrices", "all")),
    }
    ones = tuple(name for name in learned if choose((False, True)))
    batches = tuple(_documents(choose, rows) for _ in range(choose((1, 2))))
    hyper, update = choose(HYPERS), choose((1, 3))
    seed, style = choose(range(100)), choose(STYLES)
    of = tuple(options.items())
    return Training(graph, rows, tuple(learned), of, ones, batches, hyper, update, seed, style)


def _documents(choose: Choose, rows: int) -> tuple[int, ...]:
    """Lengths of documents that fit into `rows`."""
    lengths = [choose(range(1, rows + 1))]
    while sum(lengths) < rows and choose((False, True, True)):
        lengths.append(choose(range(1, rows - sum(lengths) + 1)))
    return tuple(lengths)


class _Training(Drawing):
    """Weights are row-major, attention is among the rows of documents, the end may be a loss."""

    def matrix(self, n_out: int, n_in: int, storage: str | None = None) -> str:
        return self.leaf(trained(n_out, n_in))

    def where(self) -> str:
        return "positions"

    def attend(self) -> None:
        x = self.pick(rows=True)
        (heads, kv_heads), head_dim = self.choose(HEADS), self.choose((1, 2, 5, 8, 16, 17, 32))
        q = self.rows_of(x, heads * head_dim)
        k, v = (self.rows_of(x, kv_heads * head_dim) for _ in range(2))
        if head_dim > 1 and self.choose((False, True, True)):
            q, k = self.turned(q, heads), self.turned(k, kv_heads)
        properties = {
            "heads": heads, "kv_heads": kv_heads, "scale": self.choose(SCALES), "window": self.choose(WINDOWS)
        }  # fmt: skip
        starts = self._input("starts")
        self.keep(self.add(PackedAttentionOp, q.name, k.name, v.name, starts, **properties), 1, q.columns)

    def convolve(self) -> None:
        x = self.pick(rows=True)
        w = self.matrix(x.columns, self.choose(TAPS))
        self.keep(self.add(PackedConv1dOp, x.name, w, self._input("starts")), 1, x.columns)

    def recall(self) -> None:
        names, properties, sizes = draw_rule(self, self.pick(rows=True))
        made = self.add(PackedDeltaRuleOp, *names, self._input("starts"), **properties)
        self.keep(made, 1, sizes[0] * sizes[2])

    def results(self) -> tuple[str, ...]:
        """A loss, rows, or both; something trained is always among what they depend on."""
        loss: tuple[str, ...] = ()
        if self.choose((True, True, False)):
            x = self.pick(rows=True)
            head = self.matrix(self.n_vocab, x.columns)
            loss = (self.add(CrossEntropyOp, x.name, head, self._input("targets")),)
            if self.choose((True, True, False)):
                return loss
        elif not any(name.startswith(("w", "gain")) for name in self._fed()):
            self.linear()
        return (*loss, *super().results())

    def _fed(self) -> set[str]:
        """What the last value that can be returned depends on."""
        known = self._returnable()[-1:]
        wanted = set(known)
        for node in reversed(self.nodes):
            if wanted.intersection(node.results):
                wanted.update(node.operands)
        return wanted
