"""A model's training graph over the rows of one batch, and its forward pass interpreted.

The graph is built anew for exactly these rows, so that every row is live.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, SymbolRefAttr
from xdsl.ir import Operation, SSAValue

from ck.frontend.graph import BuiltGraph, build_training_graph
from ck.frontend.template import Template
from ck.ir.evaluate import find_function
from ck.ir.op import Array, CkOp, attr
from ck.ir.ops.weight import WeightOp
from ck.runtime.trainable import Rows

STEP = "train_step"


@dataclass(frozen=True)
class Problem:
    """What a step computes with: the model, its weights, a batch, the slope of each row's loss, and the
    choices that its program was compiled for."""

    template: Template
    weights: Mapping[str, Array]
    rows: Rows
    options: Mapping[str, Any]

    @property
    def n_rows(self) -> int:
        return len(self.rows.tokens)

    @property
    def slopes(self) -> Array:
        """The gradient of the mean loss with respect to each row's: [N, 1] f32."""
        scored = self.rows.targets >= 0
        return np.where(scored, np.float32(1 / max(1, self.rows.n_scored)), np.float32(0))[:, None]

    def graph(self) -> BuiltGraph:
        """The graph before any pass, with the choices that passes read from it."""
        built = build_training_graph(
            self.template.hp, self.template.architecture, self.template.shapes, self.n_rows
        )
        ones = self.template.architecture.stored_as_one_plus(self.template.hp)
        built.module.attributes["ck.training"] = DictionaryAttr(
            {
                **{name: attr(value) for name, value in self.options.items()},
                "toward_one": ArrayAttr([SymbolRefAttr(name) for name in ones]),
            }
        )
        return built

    def arguments(self, function: func.FuncOp) -> list[Any]:
        """Arguments of the step by their names; what has another name is the slopes."""
        known: dict[str, Any] = {
            "tokens": self.rows.tokens,
            "targets": self.rows.targets,
            "positions": self.rows.positions.astype(np.float32)[:, None],
            "starts": self.rows.starts,
            "n": self.n_rows,
        }
        return [known.get(str(arg.name_hint), self.slopes) for arg in function.body.block.args]

    def tensors(self, constants: Mapping[str, Array], dtype: type[np.floating[Any]]) -> dict[str, Array]:
        """Weights and constants of that width."""
        return {name: np.asarray(values, dtype) for name, values in {**self.weights, **constants}.items()}


@dataclass
class Forward:
    """The step's forward pass: its ops in order, the value of each SSA value."""

    module: ModuleOp
    ops: list[CkOp]
    values: dict[SSAValue, Any]
    returned: Sequence[SSAValue]
    slopes: Array
    constants: Mapping[str, Array]
    weights: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])


def forward(problem: Problem) -> Forward:
    """Run the forward pass in f64 by the ops' references."""
    built = problem.graph()
    function = find_function(built.module, STEP)
    block = function.body.block
    tensors = problem.tensors(built.constants, np.float64)
    values: dict[SSAValue, Any] = dict(zip(block.args, problem.arguments(function), strict=True))
    ops: list[CkOp] = []
    named: dict[str, SSAValue] = {}
    last = block.last_op
    assert isinstance(last, func.ReturnOp)
    for op in block.ops:
        if isinstance(op, WeightOp):
            values[op.value] = tensors[op.symbol_name]
            named[op.symbol_name] = op.value
        elif isinstance(op, CkOp):
            values.update(zip(op.results, run(op, values), strict=True))
            ops.append(op)
    slopes = problem.slopes.astype(np.float64)
    return Forward(built.module, ops, values, tuple(last.operands), slopes, built.constants, named)


def run(op: CkOp, values: Mapping[SSAValue, Any]) -> tuple[Any, ...]:
    """The results of one op by its reference."""
    with np.errstate(all="ignore"):
        return op.reference(*(values[operand] for operand in op.operands))


def is_f32(value: Any) -> bool:
    """Whether a value is an array of f32."""
    return isinstance(value, np.ndarray) and cast(Array, value).dtype == np.float32


def near(op: Operation) -> str | None:
    """The trained weight that is closest before `op`: where in the model it stands."""
    seen: set[Operation] = set()
    level: list[Operation] = [op]
    while level:
        for each in level:
            if isinstance(each, WeightOp) and "." in each.symbol_name and "freq" not in each.symbol_name:
                return each.symbol_name
        seen.update(level)
        owners = [operand.owner for each in level for operand in each.operands]
        level = [o for o in dict.fromkeys(owners) if isinstance(o, Operation) and o not in seen]
    return None
