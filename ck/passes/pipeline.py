"""The order of the passes, on one screen.

Each stage is a name under which its IR is kept and read back: `ck compile --emit NAME`, `model.ir(NAME)`. A
module remembers in `ck.after` the last pass that it has been through, so a stored stage can go on from there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass
from xdsl.transforms.canonicalize import CanonicalizePass
from xdsl.transforms.common_subexpression_elimination import CommonSubexpressionElimination
from xdsl.transforms.dead_code_elimination import DeadCodeElimination

from ck.errors import CkError
from ck.ir.check.tier import BITS, Tier
from ck.passes.add_optimizer import AddOptimizerPass
from ck.passes.assign_layouts import AssignLayoutsPass
from ck.passes.assign_precision import AssignPrecisionPass
from ck.passes.bufferize import BufferizePass
from ck.passes.differentiate import DifferentiatePass
from ck.passes.expand_math import ExpandMathPass
from ck.passes.fuse_linear import FuseLinearPass
from ck.passes.fuse_rows import FuseRowsPass
from ck.passes.plan_memory import PlanMemoryPass
from ck.passes.recompute_activations import RecomputeActivationsPass
from ck.passes.reproducer import PassCrash
from ck.passes.reroll_layers import RerollLayersPass
from ck.passes.schedule_threads import ScheduleThreadsPass
from ck.passes.select_kernels import SelectKernelsPass


@dataclass(frozen=True)
class Stage:
    """Passes that lead to a form of the program with a name."""

    name: str
    passes: tuple[type[ModulePass], ...]


STAGES = (
    Stage("graph", ()),
    Stage("fused", (CommonSubexpressionElimination, DeadCodeElimination, FuseLinearPass, FuseRowsPass)),
    # Layouts first: a kernel is chosen by the layout of its weight.
    Stage("kernels", (AssignLayoutsPass, AssignPrecisionPass, SelectKernelsPass)),
    Stage("buffers", (BufferizePass, ExpandMathPass)),
    # Barriers depend on which buffers share bytes, and layers are rolled up with their barriers.
    Stage("scheduled", (PlanMemoryPass, ScheduleThreadsPass, RerollLayersPass)),
)

# What training adds in front, on the graph that inference has. Recomputing needs the gradient to see what it
# would save, and accumulation comes last: a gradient that is added in place is a value no more.
TRAINING = Stage("differentiated", (DifferentiatePass, RecomputeActivationsPass, AddOptimizerPass))
TRAINING_STAGES = (STAGES[0], TRAINING, *STAGES[1:])

ORDER = tuple(kind for stage in TRAINING_STAGES for kind in stage.passes)
PASSES = tuple(kind for kind in ORDER if kind.name.startswith(("ck-", "rt-")))

# What xDSL's own passes promise; ours say it themselves.
_TIERS: dict[type[ModulePass], Tier] = {
    CommonSubexpressionElimination: BITS,
    DeadCodeElimination: BITS,
    CanonicalizePass: BITS,
}

# What goes before a pass, wherever both run: else the later one declines, finds nothing left to do, or has
# the earlier one undo what it did. ORDER is one order of many that keep this. What stands on neither side,
# common subexpressions and dead code, may be looked for at any time.
_GRADIENTS = (DifferentiatePass, RecomputeActivationsPass, AddOptimizerPass)
_TENSORS = (*_GRADIENTS, FuseLinearPass, FuseRowsPass, AssignLayoutsPass, AssignPrecisionPass)
EARLIER: dict[type[ModulePass], tuple[type[ModulePass], ...]] = {
    RecomputeActivationsPass: (DifferentiatePass,),
    AddOptimizerPass: (DifferentiatePass, RecomputeActivationsPass),
    # No gradient goes through a fused op or a packed weight, and none takes over a product's precision.
    FuseLinearPass: (DifferentiatePass,),
    FuseRowsPass: (DifferentiatePass,),
    AssignLayoutsPass: (DifferentiatePass,),
    AssignPrecisionPass: (DifferentiatePass,),
    SelectKernelsPass: _TENSORS,
    BufferizePass: (*_TENSORS, SelectKernelsPass),
    ExpandMathPass: (BufferizePass,),
    PlanMemoryPass: (BufferizePass,),
    ScheduleThreadsPass: (PlanMemoryPass,),
    RerollLayersPass: (ScheduleThreadsPass,),
}
# Passes without which a program means the same and still compiles.
OPTIONAL = (
    CommonSubexpressionElimination,
    DeadCodeElimination,
    RecomputeActivationsPass,
    FuseLinearPass,
    SelectKernelsPass,
    RerollLayersPass,
)


def tier_of(kind: type[ModulePass]) -> Tier:
    """What a pass promises of the values that were there before it."""
    return _TIERS[kind] if kind in _TIERS else getattr(kind, "TIER", BITS)


def run_pass(context: Context, module: ModuleOp, kind: type[ModulePass]) -> None:
    """Apply one pass and note it in the module."""
    kind().apply(context, module)
    mark(module, kind.name)


def mark(module: ModuleOp, name: str) -> None:
    """Note that `module` has been through pass `name`."""
    module.attributes["ck.after"] = StringAttr(name)


def remaining(module: ModuleOp) -> tuple[type[ModulePass], ...]:
    """The passes that `module` has still to go through; all of them when it carries no note."""
    note = module.attributes.get("ck.after")
    if not isinstance(note, StringAttr):
        return ORDER
    names = [kind.name for kind in ORDER]
    return ORDER[names.index(note.data) + 1 :] if note.data in names else ORDER


def run_stages(context: Context, module: ModuleOp) -> Iterator[str]:
    """Run the whole pipeline on a fresh module, yielding each stage's name when `module` is in it.

    Raises PassCrash, with the IR before it, when a pass does not do its work.
    """
    # 1.5 % of a compilation; the IR before a pass that crashes is made from it, and costs the others nothing.
    fresh, done = module.clone(), list[type[ModulePass]]()
    for stage in TRAINING_STAGES if "ck.training" in module.attributes else STAGES:
        for kind in stage.passes:
            try:
                run_pass(context, module, kind)
            except CkError:
                raise
            except Exception as error:
                for before in done:
                    run_pass(context, fresh, before)
                raise PassCrash.raised(kind.name, error, str(fresh), [kind.name]) from error
            done.append(kind)
        yield stage.name
