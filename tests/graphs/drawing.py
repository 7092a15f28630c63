"""Draw the body of an entry step by step, each step on values that are there, valid by construction.

A drawing asks one thing of whoever drives it: `choose(options)`, which takes one of a list that begins with
the simplest. Hypothesis drives it with a strategy, `random.Random(seed).choice` for a fixed program.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

from xdsl.ir import Attribute

from ck.ir.op import CkOp
from ck.ir.ops.add import AddOp
from ck.ir.ops.bias_add import BiasAddOp
from ck.ir.ops.embed import EmbedOp
from ck.ir.ops.exp import ExpOp
from ck.ir.ops.gain import FORMS, GainOp
from ck.ir.ops.gelu_tanh import GeluTanhOp
from ck.ir.ops.l2_norm import L2NormOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.rope import MODES, RopeOp
from ck.ir.ops.rope_table import RopeTableOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.sigmoid import SigmoidOp
from ck.ir.ops.silu import SiluOp
from ck.ir.ops.softcap import SoftcapOp
from ck.ir.ops.softplus import SoftplusOp
from ck.ir.ops.split import SplitOp
from ck.ir.types import WeightType, shape, tensor
from tests.graphs.program import Graph, Node

Choose = Callable[[Sequence[Any]], Any]

# Around the 16 lanes of a vector, the 64 columns of a reduction, the blocks of 32 and 256; primes.
COLUMNS = (1, 2, 3, 5, 8, 16, 17, 31, 32, 32, 33, 48, 64, 64, 65, 96, 97, 128, 256, 256)
EPS = (1e-5, 1e-6, 1e-2, 1.0)
CAPS = (5.0, 1.0, 30.0)
FACTORS = (1.0, 0.5, -2.0, 0.0, 1e-3)
# Of tables of angles: none, or what yarn has.
TURNS: tuple[dict[str, float], ...] = ({}, {}, {"factor": 1.25})
TAPS = (4, 2, 3, 8)
# A step is drawn until this many ops are there: a program has a few more.
MOST_NODES, MOST_WITH_LAYERS = 11, 24


@dataclass(frozen=True)
class Value:
    """Rows that a step may take."""

    name: str
    per_token: int
    columns: int


class Drawing(ABC):
    """A graph in the making."""

    # How often each step is offered.
    STEPS: ClassVar[dict[str, int]] = {
        "unary": 3, "norm": 2, "linear": 3, "binary": 3, "residual": 2, "gated": 1, "fan": 1, "view": 2,
        "turn": 1, "heads": 1, "embed": 1, "bias": 1, "attend": 2, "layers": 1,
        "smooth": 1, "length": 1, "factor": 1, "parts": 2, "convolve": 2, "recall": 1,
    }  # fmt: skip

    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.leaves: dict[str, Attribute] = {}
        self.used: dict[str, None] = {}
        self.width = choose(COLUMNS)
        self.n_vocab = choose((2, 3, 17, 33, 40))
        if choose((True, True, False)):
            self._input("x")
            self.values.append(Value("x", 1, self.width))
        else:
            self.embed()

    def steps(self) -> None:
        """Draw one step after the other until that is enough."""
        names = [name for name, times in self.STEPS.items() for _ in range(times)]
        while len(self.nodes) < MOST_NODES and self.choose((False, *[True] * 6)):
            getattr(self, self.choose(names))()
        if self.choose((False, True)):
            self.join()

    def graph(self, extra: Sequence[str] = ()) -> Graph:
        """What has been drawn; some values that nobody reads are dead."""
        results = self.results()
        order = ("x", "tokens", "targets", "positions", "starts", "n", "pos")
        inputs = tuple(name for name in order if name in self.used or name in ("n", *extra))
        leaves = tuple(self.leaves.items())
        return Graph(inputs, self.width, self.n_vocab, leaves, tuple(self.nodes), results)

    def join(self) -> None:
        """Draw ends that nobody reads together, so that little is dead."""
        read = {operand for node in self.nodes for operand in node.operands}
        ends = [value for value in self.values if value.per_token == 1 and value.name not in read]
        if len(ends) > 1:
            columns = self.choose(COLUMNS)
            total = self.product(ends[-1], columns)
            for end in ends[-3:-1]:
                part = self.product(end, columns)
                total = self.keep(self.add(AddOp, total.name, part.name), 1, columns)

    def results(self) -> tuple[str, ...]:
        """Values with a buffer of their own: no inputs, no views."""
        if not self._returnable():
            self.unary()
        known = self._returnable()
        chosen = [known[-1]]
        while len(chosen) < min(3, len(known)) and self.choose((False, False, True)):
            chosen.append(self.choose([name for name in known if name not in chosen]))
        return tuple(chosen)

    def _returnable(self) -> list[str]:
        views = {node.result for node in self.nodes if node.kind is ReshapeOp}
        made = {result for node in self.nodes for result in node.results}
        return [value.name for value in self.values if value.name in made - views]

    # What steps are made of.

    def add(self, kind: type[CkOp], *operands: str, **properties: Any) -> str:
        """The name of a new op's result."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(Node(kind, operands, name, tuple(properties.items())))
        return name

    def keep(self, name: str, per_token: int, columns: int) -> Value:
        """Let later steps take a value."""
        self.values.append(Value(name, per_token, columns))
        return self.values[-1]

    def _input(self, name: str) -> str:
        self.used[name] = None
        return name

    def pick(self, *, rows: bool = False, like: Value | None = None) -> Value:
        """A value that is there, late ones more often; one row a token with `rows`, or shaped as `like`."""
        known = [
            value
            for value in self.values
            if (not rows or value.per_token == 1)
            and (like is None or (value.per_token, value.columns) == (like.per_token, like.columns))
        ]
        return self.choose([*known, *[known[-1]] * 3])

    def leaf(self, of: Attribute, kind: str = "w") -> str:
        """A weight of type `of`: now and then one that is used already."""
        same = [name for name, known in self.leaves.items() if known == of and name.startswith(kind)]
        if same and self.choose((False, True)):
            return self.choose(same)
        return self.fresh(of, kind)

    def fresh(self, of: Attribute, kind: str) -> str:
        """A weight or cache of type `of` that nobody has used."""
        name = f"{kind}.{len(self.leaves)}"
        self.leaves[name] = of
        return name

    def storage(self, columns: int) -> str:
        """A type in which a weight of so many columns may be stored."""
        names = ["f32", "f16", "bf16"]
        names += ["q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"] if columns % 32 == 0 else []
        names += ["q6_k", "q5_k", "q4_k", "q3_k", "q2_k", "iq4_xs"] * 3 if columns % 256 == 0 else []
        return self.choose(names)

    def matrix(self, n_out: int, n_in: int, storage: str | None = None) -> str:
        """A weight of a product."""
        return self.leaf(WeightType.of((n_out, n_in), storage or self.storage(n_in)))

    def product(self, x: Value, n_out: int, storage: str | None = None) -> Value:
        """A linear of `x`."""
        made = self.add(LinearOp, x.name, self.matrix(n_out, x.columns, storage))
        return self.keep(made, 1, n_out)

    def rows_of(self, x: Value, columns: int) -> Value:
        """Rows of a wanted width: a product of `x`, or a value that has it."""
        fitting = [value for value in self.values if (value.per_token, value.columns) == (1, columns)]
        if fitting and self.choose((False, False, True)):
            return self.choose(fitting)
        return self.product(x, columns)

    def table(self, head_dim: int) -> str:
        """A table of angles for some columns of a head."""
        dims = self.choose([d for d in range(2, head_dim + 1, 2) if d in (2, 6, 16, 32) or d > head_dim - 2])
        freq = self.leaf(tensor(dims // 2), "freq")
        where = self._input(self.where())
        for node in self.nodes:
            same = node.kind is RopeTableOp and node.operands == (freq, where)
            if same and self.choose((True, True, False)):
                return node.result
        return self.add(RopeTableOp, freq, where, **self.choose(TURNS))

    def where(self) -> str:
        """The input that says where rows stand."""
        return "pos"

    def turned(self, x: Value, heads: int) -> Value:
        """`x` with its heads rotated."""
        table = self.table(x.columns // heads)
        mode = self.choose(tuple(MODES))
        return self.keep(self.add(RopeOp, x.name, table, heads=heads, mode=mode), 1, x.columns)

    # Steps.

    def unary(self) -> None:
        x = self.pick()
        kind = self.choose((SiluOp, GeluTanhOp, ScaleOp, SoftcapOp))
        properties: dict[str, Any] = {}
        if kind is ScaleOp:
            properties = {"factor": self.choose(FACTORS)}
        if kind is SoftcapOp:
            properties = {"cap": self.choose(CAPS)}
        self.keep(self.add(kind, x.name, **properties), x.per_token, x.columns)

    def normed(self, x: Value) -> Value:
        """A norm of `x`."""
        gain = self.leaf(tensor(x.columns), "gain")
        made = self.add(RmsNormOp, x.name, gain, eps=self.choose(EPS))
        return self.keep(made, x.per_token, x.columns)

    def norm(self) -> None:
        self.normed(self.pick())

    def bias(self) -> None:
        """A product with a bias, or a bias of any rows."""
        x = self.pick()
        if x.per_token == 1 and self.choose((True, False)):
            x = self.product(x, self.choose(COLUMNS))
        bias = self.leaf(tensor(x.columns), "bias")
        self.keep(self.add(BiasAddOp, x.name, bias), x.per_token, x.columns)

    def smooth(self) -> None:
        """What gates are made of; an exponential only of what is bounded."""
        x = self.pick()
        kind = self.choose((SigmoidOp, SoftplusOp, ExpOp))
        if kind is ExpOp:
            x = self.keep(self.add(SigmoidOp, x.name), x.per_token, x.columns)
        self.keep(self.add(kind, x.name), x.per_token, x.columns)

    def length(self) -> None:
        x = self.pick()
        self.keep(self.add(L2NormOp, x.name, eps=self.choose(EPS)), x.per_token, x.columns)

    def factor(self) -> None:
        x = self.pick()
        made = self.add(GainOp, x.name, self.leaf(tensor(x.columns), "gain"), form=self.choose(FORMS))
        self.keep(made, x.per_token, x.columns)

    def parts(self) -> None:
        """The columns of rows, cut in two or three; not each of them is read."""
        x = self.pick()
        cuts = sorted({self.choose(range(1, max(2, x.columns))) for _ in range(2)} - {x.columns})
        sizes = tuple(end - begin for begin, end in pairwise((0, *cuts, x.columns)))
        first = self.add(SplitOp, x.name, sizes=sizes)
        # Not first_1: a digit after an underscore is the printer's, and is not part of a name.
        names = (first, *(f"{first}p{place}" for place in range(1, len(sizes))))
        self.nodes[-1] = replace(self.nodes[-1], others=names[1:])
        for name, columns in zip(names, sizes, strict=True):
            self.keep(name, x.per_token, columns)

    def linear(self) -> None:
        x = self.pick(rows=True)
        tied = [
            name
            for name, of in self.leaves.items()
            if isinstance(of, WeightType) and shape(of)[1] == x.columns
        ]
        if tied and self.choose((False, True)):
            w = self.choose(tied)
            self.keep(self.add(LinearOp, x.name, w), 1, shape(self.leaves[w])[0])
        else:
            self.product(x, self.choose(COLUMNS))

    def binary(self) -> None:
        a = self.pick()
        b = self.pick(like=a)
        kind = self.choose((AddOp, MulOp))
        self.keep(self.add(kind, a.name, b.name), a.per_token, a.columns)

    def residual(self) -> None:
        """A sum with a product, which may be fused; either side may be read again."""
        a, x = self.pick(rows=True), self.pick(rows=True)
        y = self.product(x, a.columns)
        pair = (a, y) if self.choose((True, False)) else (y, a)
        self.keep(self.add(AddOp, pair[0].name, pair[1].name), 1, a.columns)

    def gated(self) -> None:
        """Two products of the same rows, one of them activated."""
        x, columns = self.pick(rows=True), self.choose(COLUMNS[:-1])
        storage = self.storage(x.columns)
        gate = self.product(x, columns, storage)
        up = self.product(x, columns, storage if self.choose((True, True, False)) else None)
        act = self.add(self.choose((SiluOp, GeluTanhOp)), gate.name)
        pair = (act, up.name) if self.choose((True, False)) else (up.name, act)
        self.keep(self.add(MulOp, *pair), 1, columns)

    def fan(self) -> None:
        """Several products of the same rows."""
        x = self.pick(rows=True)
        for _ in range(self.choose((2, 3))):
            self.product(x, self.choose(COLUMNS[:-1]))

    def view(self) -> None:
        """The same elements in more or fewer rows."""
        x = self.pick()
        parts = [n for n in range(1, x.columns + 1) if x.columns % n == 0 and x.per_token * n <= 12]
        joins = [n for n in range(2, x.per_token + 1) if x.per_token % n == 0]
        if joins and self.choose((True, False)):
            n = self.choose(joins)
            per_token, columns = x.per_token // n, x.columns * n
        else:
            n = self.choose(parts)
            per_token, columns = x.per_token * n, x.columns // n
        self.keep(self.add(ReshapeOp, x.name, per_token=per_token, columns=columns), per_token, columns)

    def turn(self) -> None:
        """A rotation of heads of any even width that fits."""
        x = self.pick(rows=True)
        heads = [n for n in range(1, x.columns // 2 + 1) if x.columns % n == 0]
        if heads:
            self.turned(x, self.choose(heads))

    def heads(self) -> None:
        """A norm of every head, seen through two views."""
        x = self.pick(rows=True)
        count = self.choose([n for n in (1, 2, 3, 4, 8) if x.columns % n == 0])
        split = self.add(ReshapeOp, x.name, per_token=count, columns=x.columns // count)
        inner = self.normed(self.keep(split, count, x.columns // count))
        self.keep(self.add(ReshapeOp, inner.name, per_token=1, columns=x.columns), 1, x.columns)

    def layers(self) -> None:
        """Steps from rows to rows of one width, done again with other weights, as a model's layers are."""
        x, outside = self.pick(rows=True), self.values
        begin = len(self.nodes)
        within = self.normed(x) if self.choose((True, False)) else x
        self.values = [within]
        getattr(self, self.choose(("gated", "linear", "unary", "attend", "convolve")))()
        last = self.values[-1]
        part = last if last.columns == x.columns else self.product(last, x.columns)
        y = Value(self.add(AddOp, x.name, part.name), 1, x.columns)
        block = self.nodes[begin:]
        for _ in range(self.choose((1, 2, 3))):
            if len(self.nodes) + len(block) > MOST_WITH_LAYERS:
                break
            y = Value(self._again(block, x.name, y.name), 1, x.columns)
        self.values = [*outside, y]

    def _again(self, block: Sequence[Node], x: str, again: str) -> str:
        """`block`, which began at `x`, from `again` on; its weights and caches are others of their types."""
        names = {x: again}
        for node in block:
            for operand in node.operands:
                if operand in self.leaves and operand not in names and not operand.startswith("freq"):
                    names[operand] = self.fresh(self.leaves[operand], operand.split(".")[0])
            operands = [names.get(operand, operand) for operand in node.operands]
            made = self.add(node.kind, *operands, **dict(node.properties))
            names[node.result] = made
        return names[block[-1].result]

    def embed(self) -> None:
        columns = self.choose(COLUMNS)
        w = self.matrix(self.n_vocab, columns)
        self.keep(self.add(EmbedOp, self._input("tokens"), w), 1, columns)

    @abstractmethod
    def attend(self) -> None:
        """Attention, as the kind of program has it."""

    @abstractmethod
    def convolve(self) -> None:
        """A filter of every column, as the kind of program has it."""

    @abstractmethod
    def recall(self) -> None:
        """A delta rule, as the kind of program has it."""
