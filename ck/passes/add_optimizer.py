"""Turn gradients into training: accumulate them in place, and add the functions that clip and update.

A gradient that a function returned is added to the state `grad.<weight>` instead, by the kernel that makes it
where that kernel can add. Two entries join the module, both over all weights: `@grad_norm(hyper, n)` gives
the global norm and the factor that clips it, `@update(hyper, norm, n)` does one step of the optimizer and
zeroes the gradients. Learning rate, betas, decay and clip are in `hyper` (ck/ir/ops/adamw.py), values of the
run.

Before:
    func.func @f(%x: tensor<2x32xf32>, %dy: tensor<2x16xf32>, %n: index) -> !ck.q<16x32xf32, rows>
        attributes {ck.gradients = [@up]} {
      %dw = ck.matmul %dy, %x {form = "tn"}
        : (tensor<2x16xf32>, tensor<2x32xf32>) -> !ck.q<16x32xf32, rows>
      func.return %dw : !ck.q<16x32xf32, rows>
    }
After:
    func.func @f(%x: tensor<2x32xf32>, %dy: tensor<2x16xf32>, %n: index) {
      %grad = ck.weight @grad.up : !ck.q<16x32xf32, rows>
      %dw = ck.matmul %dy, %x add %grad {form = "tn"}
        : (tensor<2x16xf32>, tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> !ck.q<16x32xf32, rows>
      func.return
    }
    func.func @grad_norm(%hyper: tensor<8xf32>, %n: index) -> tensor<2xf32> attributes {ck.entry} {
      %grad = ck.weight @grad.up : !ck.q<16x32xf32, rows>
      %norm, %partials = ck.global_norm %hyper, %grad
        : (tensor<8xf32>, !ck.q<16x32xf32, rows>) -> (tensor<2xf32>, tensor<1xf32>)
      func.return %norm : tensor<2xf32>
    }
    func.func @update(%hyper: tensor<8xf32>, %norm: tensor<2xf32>, %n: index) attributes {ck.entry} {
      %w = ck.weight @up : !ck.q<16x32xf32, rows>
      %g = ck.weight @grad.up : !ck.q<16x32xf32, rows>
      %m = ck.weight @adam_m.up : !ck.q<16x32xf32, rows>
      %v = ck.weight @adam_v.up : !ck.q<16x32xf32, rows>
      %0, %1, %2, %3 = ck.adamw %w, %g, %m, %v, %norm, %hyper {decay = 1 : i64, toward = 0.000000e+00 : f32}
        : (!ck.q<16x32xf32, rows>, !ck.q<16x32xf32, rows>, !ck.q<16x32xf32, rows>, !ck.q<16x32xf32, rows>,
           tensor<2xf32>, tensor<8xf32>)
        -> (!ck.q<16x32xf32, rows>, !ck.q<16x32xf32, rows>, !ck.q<16x32xf32, rows>, !ck.q<16x32xf32, rows>)
      func.return
    }

Weight decay falls on matrices only, on everything with decay "all"; weights that the module's `ck.training`
lists under `toward_one` are drawn to 1, which is where a family's gain stands that is stored as 1 + w. Leaves
a module without gradients alone. Raises when the module has an entry of one of those names, and for buffers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from xdsl.builder import Builder
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, IndexType, ModuleOp, UnitAttr
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.exceptions import VerifyException

from ck.ir.check.checker import Judge
from ck.ir.check.tier import BITS, Tier
from ck.ir.check.updates import judge_updates
from ck.ir.functions import symbol_names, training_options
from ck.ir.op import Accumulates
from ck.ir.ops.accumulate import AccumulateOp
from ck.ir.ops.adamw import SECOND_MOMENT, AdamwOp, Optimizer
from ck.ir.ops.global_norm import HYPER, GlobalNormOp
from ck.ir.ops.sgd import SgdOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import shape, tensor
from ck.passes.differentiate import GRADIENTS, require_values, symbols

# Each optimizer with the states it keeps beside weight and gradient.
OPTIMIZERS: dict[str, tuple[type[Optimizer], tuple[str, ...]]] = {
    "adamw": (AdamwOp, ("adam_m", SECOND_MOMENT)),
    "sgd": (SgdOp, ("momentum",)),
}
DECAYS = ("matrices", "all")
ENTRIES = ("grad_norm", "update")


@dataclass(frozen=True)
class _Choice:
    """What the update does."""

    kind: str
    decay: str
    toward_one: frozenset[str]


def _accumulate(function: func.FuncOp) -> dict[str, Attribute]:
    """Replace the gradients that `function` returns by additions to states; returns the weights' types."""
    names = symbols(function, GRADIENTS)
    block = function.body.block
    last = block.last_op
    assert isinstance(last, func.ReturnOp)
    results, gradients = last.operands[: -len(names)], last.operands[-len(names) :]
    types = {name: value.type for name, value in zip(names, gradients, strict=True)}
    gradients = list(gradients)
    Rewriter.replace_op(last, func.ReturnOp(*results))
    states: list[WeightOp] = []
    for name, gradient in zip(names, gradients, strict=True):
        states.append(WeightOp.of(f"grad.{name}", types[name]))
        _add_into(block, states[-1], gradient)
    for state in reversed(states):
        Rewriter.insert_op(state, InsertPoint.at_start(block))
    kept = ([arg.type for arg in block.args], [value.type for value in results])
    function.function_type = FunctionType.from_lists(*kept)
    del function.attributes[GRADIENTS]
    return types


def _add_into(block: Block, state: WeightOp, gradient: SSAValue) -> None:
    """Add `gradient` to `state`: at the beginning of its chain of additions, else by an op of its own."""
    first = gradient.owner
    while isinstance(first, Accumulates) and first.accumulator is not None:
        first = first.accumulator.owner
    if isinstance(first, Accumulates):
        Rewriter.replace_op(first, first.with_accumulator(state.value))
        return
    end = block.last_op
    assert end is not None
    Rewriter.insert_op(AccumulateOp.build_op(state.value, gradient), InsertPoint.before(end))


def _entry(name: str, inputs: Mapping[str, Attribute]) -> tuple[func.FuncOp, dict[str, SSAValue], Builder]:
    """An empty entry with its arguments by name."""
    block = Block(arg_types=list(inputs.values()))
    for arg, hint in zip(block.args, inputs, strict=True):
        arg.name_hint = hint
    function = func.FuncOp(name, FunctionType.from_lists(list(inputs.values()), []), Region(block))
    function.attributes["ck.entry"] = UnitAttr()
    return function, dict(zip(inputs, block.args, strict=True)), Builder(InsertPoint.at_end(block))


def _grad_norm(types: dict[str, Attribute]) -> func.FuncOp:
    function, args, b = _entry(ENTRIES[0], {"hyper": tensor(HYPER), "n": IndexType()})
    gradients = [b.insert(WeightOp.of(f"grad.{name}", of)).value for name, of in types.items()]
    norm = b.insert(GlobalNormOp.build_op(args["hyper"], *gradients, hint="norm"))
    norm.partials.name_hint = "partials"
    b.insert(func.ReturnOp(norm.norm))
    inputs = [arg.type for arg in function.body.block.args]
    function.function_type = FunctionType.from_lists(inputs, [norm.norm.type])
    return function


def _update(types: dict[str, Attribute], choice: _Choice) -> func.FuncOp:
    inputs = {"hyper": tensor(HYPER), "norm": tensor(2), "n": IndexType()}
    function, args, b = _entry(ENTRIES[1], inputs)
    kind, moments = OPTIMIZERS[choice.kind]
    for name, of in types.items():
        states = [b.insert(WeightOp.of(f"{prefix}{name}", of)).value for prefix in _prefixes(moments)]
        decay = int(choice.decay == "all" or len(shape(of)) == 2)
        toward = float(name in choice.toward_one)
        b.insert(kind.build_op(*states, args["norm"], args["hyper"], decay=decay, toward=toward))
    b.insert(func.ReturnOp())
    return function


def _prefixes(moments: Sequence[str]) -> list[str]:
    return ["", "grad.", *(f"{moment}." for moment in moments)]


def _choice(module: ModuleOp, kind: str | None, decay: str | None) -> _Choice:
    options = training_options(module)
    ones = symbol_names(options.get("toward_one"))
    chosen = kind or options.text("optimizer", "adamw"), decay or options.text("decay", "matrices")
    if chosen[0] not in OPTIMIZERS or chosen[1] not in DECAYS:
        raise VerifyException(
            f"ck-add-optimizer: kind is one of {', '.join(OPTIMIZERS)} and decay one of {', '.join(DECAYS)}, "
            f"got {chosen[0]} and {chosen[1]}"
        )
    return _Choice(*chosen, frozenset(ones))


@dataclass(frozen=True)
class AddOptimizerPass(ModulePass):
    """`ck-add-optimizer{kind, decay}`; by default what `ck.training` says, else AdamW, decay on matrices."""

    name = "ck-add-optimizer"
    TIER: ClassVar[Tier] = BITS
    JUDGE: ClassVar[Judge] = staticmethod(judge_updates)
    kind: str | None = None
    decay: str | None = None

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        choice = _choice(op, self.kind, self.decay)
        types: dict[str, Attribute] = {}
        functions = [inner for inner in op.ops if isinstance(inner, func.FuncOp)]
        trained = [function for function in functions if GRADIENTS in function.attributes]
        for function in functions if trained else ():
            if function.sym_name.data in ENTRIES:
                raise VerifyException(f"ck-add-optimizer: the module has a @{function.sym_name.data} already")
        for function in trained:
            require_values("ck-add-optimizer", function)
            types |= _accumulate(function)
        if types:
            # Tensors of one type stand together, so that rt-reroll-layers makes one loop of them.
            alike = list(dict.fromkeys(types.values()))
            ordered = dict(sorted(types.items(), key=lambda entry: alike.index(entry[1])))
            op.body.block.add_ops([_grad_norm(ordered), _update(ordered, choice)])
