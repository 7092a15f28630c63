"""Save fewer activations for the backward pass: compute the others a second time, where they are needed.

A value of the forward pass that the gradient reads lives from the one to the other. With a `budget` below 1
the pass keeps at most that fraction of their bytes: it lets ops be recomputed, the cheapest kind first and of
that kind the earliest first, and of all ways to cut the forward graph between what is there and what is
needed takes the one of the fewest bytes (a minimum cut). Sums are always kept: what lies between two residual
sums can be recomputed from the first, so a chain of recomputation never grows past a block. Source: Chen et
al. 2016, arXiv:1604.06174; as a minimum cut: PyTorch's AOTAutograd partitioner.

Before:
    module attributes {ck.training = {budget = 5.000000e-01 : f32}} {
      func.func @f(%x: tensor<2x3xf32>, %dy: tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>)
          attributes {ck.gradients = [@w]} {
        %h = ck.add %x, %x : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        %s = ck.silu %h : tensor<2x3xf32> -> tensor<2x3xf32>
        %m = ck.mul %s, %h : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        %y = ck.silu %m : tensor<2x3xf32> -> tensor<2x3xf32>
        %e = ck.silu_bwd %m, %dy : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        %d = ck.mul %e, %s : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        %g = ck.silu_bwd %h, %d : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        func.return %y, %g : tensor<2x3xf32>, tensor<2x3xf32>
      }
    }
After:
    module attributes {ck.training = {budget = 5.000000e-01 : f32}} {
      func.func @f(%x: tensor<2x3xf32>, %dy: tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>)
          attributes {ck.gradients = [@w]} {
        %h = ck.add %x, %x : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        %s = ck.silu %h : tensor<2x3xf32> -> tensor<2x3xf32>
        %m = ck.mul %s, %h : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        %y = ck.silu %m : tensor<2x3xf32> -> tensor<2x3xf32>
        %e = ck.silu_bwd %m, %dy : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        %s2 = ck.silu %h {ck.recomputed} : tensor<2x3xf32> -> tensor<2x3xf32>
        %d = ck.mul %e, %s2 : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        %g = ck.silu_bwd %h, %d : tensor<2x3xf32>, tensor<2x3xf32> -> tensor<2x3xf32>
        func.return %y, %g : tensor<2x3xf32>, tensor<2x3xf32>
      }
    }

Results keep their bits: the same ops run on the same values. `ck.recomputed` keeps common-subexpression
elimination from undoing it. Leaves everything alone at budget 1, functions without gradients or that
recompute already, and what the first op of the backward pass reads (%m, a head's rows): the forward pass has
just used it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, UnitAttr
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.exceptions import VerifyException

from ck.ir.check.tier import BITS, Tier
from ck.ir.functions import training_options
from ck.ir.op import RECOMPUTED, CkOp, KernelOp, Product, RowWise, is_recomputed, type_bytes
from ck.ir.ops.add import AddOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.weight import WeightOp
from ck.passes.differentiate import GRADIENTS, require_values, symbols

# Kinds of ops in the order in which they may be recomputed: row-wise ones read and write, products count.
LEVELS: tuple[Callable[[Operation], bool], ...] = (
    lambda op: isinstance(op, RowWise | ReshapeOp) and not isinstance(op, AddOp),
    lambda op: isinstance(op, Product),
    lambda op: isinstance(op, KernelOp),
)


class _Joint:
    """A function that holds a forward and a backward pass."""

    def __init__(self, function: func.FuncOp) -> None:
        self.block: Block = function.body.block
        last = self.block.last_op
        assert isinstance(last, func.ReturnOp)
        n_seeds = len(last.operands) - len(symbols(function, GRADIENTS))
        dependent: set[SSAValue] = set(self.block.args[len(self.block.args) - n_seeds :])
        self.forward: list[CkOp] = []
        self.backward: list[Operation] = []
        for op in self.block.ops:
            if op is last:
                continue
            if any(operand in dependent for operand in op.operands):
                dependent.update(op.results)
                self.backward.append(op)
            elif isinstance(op, CkOp) and not isinstance(op, WeightOp):
                self.forward.append(op)
        del self.backward[:1]
        made = {result for op in self.forward for result in op.results}
        read = (operand for op in self.backward for operand in op.operands)
        self.needed = [value for value in dict.fromkeys(read) if value in made]

    def saved_bytes(self, saved: Sequence[SSAValue]) -> int:
        """Bytes that live from the one pass to the other; a view and its source count once."""
        return sum(type_bytes(value.type) for value in {_root(value) for value in saved})

    def cut(self, may_recompute: set[Operation]) -> list[SSAValue]:
        """The values to save, of the fewest bytes, from which all that is needed can be recomputed."""
        # Imported where a budget asks for it: it takes a quarter of a second.
        networkx: Any = import_module("networkx")
        graph = networkx.DiGraph()
        graph.add_node("there")
        graph.add_node("needed")
        for op in self.forward:
            for value in op.results:
                graph.add_edge(("in", value), ("out", value), capacity=type_bytes(value.type))
                if op not in may_recompute:
                    graph.add_edge("there", ("in", value))
                for operand in op.operands if op in may_recompute else ():
                    graph.add_edge(("out", operand), ("in", value))
        for value in self.needed:
            graph.add_edge(("out", value), "needed")
        reached = networkx.minimum_cut(graph, "there", "needed")[1][0]
        values = [value for op in self.forward for value in op.results]
        return [v for v in values if ("in", v) in reached and ("out", v) not in reached]

    def choose(self, budget: float) -> set[SSAValue]:
        """What to save: at most `budget` times the bytes, or the least there is where that fails."""
        allowed = budget * self.saved_bytes(self.needed)
        may: set[Operation] = set()
        saved = self.needed
        for level in LEVELS:
            kind = [op for op in self.forward if level(op) and op not in may and not isinstance(op, AddOp)]
            if self.saved_bytes(saved) <= allowed:
                break
            saved = self.cut(may | set(kind))
            if self.saved_bytes(saved) <= allowed:
                return set(self._fewest(may, kind, allowed))
            may |= set(kind)
        return set(saved)

    def _fewest(self, may: set[Operation], kind: list[CkOp], allowed: float) -> list[SSAValue]:
        """The cut that lets the shortest beginning of `kind` be recomputed and stays within `allowed`."""
        low, high = 0, len(kind)
        while low < high:
            middle = (low + high) // 2
            fits = self.saved_bytes(self.cut(may | set(kind[:middle]))) <= allowed
            low, high = (low, middle) if fits else (middle + 1, high)
        return self.cut(may | set(kind[:low]))

    def recompute(self, saved: set[SSAValue]) -> None:
        """Give the backward pass copies of what it needs and `saved` does not hold, each at its first use."""
        copies: dict[SSAValue, SSAValue] = {}
        recomputable: dict[SSAValue, CkOp] = {result: op for op in self.forward for result in op.results}

        def copy_of(value: SSAValue, before: Operation) -> SSAValue:
            op = recomputable.get(value)
            if value in saved or op is None:
                return value
            if value not in copies:
                operands = [copy_of(operand, before) for operand in op.operands]
                again = op.clone(value_mapper=dict(zip(op.operands, operands, strict=True)))
                again.attributes[RECOMPUTED] = UnitAttr()
                Rewriter.insert_op(again, InsertPoint.before(before))
                copies.update(zip(op.results, again.results, strict=True))
            return copies[value]

        for op in self.backward:
            for place, operand in enumerate(op.operands):
                op.operands[place] = copy_of(operand, op)


def _root(value: SSAValue) -> SSAValue:
    while isinstance(value.owner, ReshapeOp):
        value = value.owner.x
    return value


def _is_open(function: func.FuncOp) -> bool:
    """Whether `function` has a gradient, and what it saves is not chosen yet."""
    return GRADIENTS in function.attributes and not any(is_recomputed(op) for op in function.body.ops)


@dataclass(frozen=True)
class RecomputeActivationsPass(ModulePass):
    """`ck-recompute-activations{budget}`; by default what the module's `ck.training` says, else 1."""

    name = "ck-recompute-activations"
    TIER: ClassVar[Tier] = BITS
    budget: float | None = None

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        budget = training_options(op).number("budget", 1.0) if self.budget is None else self.budget
        if not 0 <= budget <= 1:
            raise VerifyException(f"ck-recompute-activations: budget is from 0 to 1, got {budget}")
        for function in op.ops:
            if isinstance(function, func.FuncOp) and _is_open(function) and budget < 1:
                require_values("ck-recompute-activations", function)
                joint = _Joint(function)
                joint.recompute(joint.choose(budget))
