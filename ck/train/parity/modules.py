"""ck's ops against transformers' modules in f64: outputs forwards, and what flows back to them.

An op corresponds to the module whose parameter it takes: a linear layer, a norm. The embedding does not (its
module may scale); its neighbours stand for it. The head, whose logits ck never holds, is compared by each
row's loss. Suspects are the ops that lead to the first op that departs and to none that agrees.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from ck.frontend.decays import FILTER
from ck.ir.op import Array, CkOp
from ck.ir.ops.cross_entropy import CrossEntropyOp
from ck.ir.ops.embed import EmbedOp
from ck.runtime.trainable import Rows
from ck.train.batches import Batch
from ck.train.config import OptimConfig
from ck.train.parity.figures import distance, norm
from ck.train.parity.graphs import Forward, Problem
from ck.train.parity.peer import Peer
from ck.train.parity.rules import Backward

# The tables of cosines and sines are f32 in ck's reference: 6e-8 each.
LIMIT = 1e-5
LOSS = "loss"
# Modules that put out something else than the op with their parameter.
_OTHERWISE = (f".{FILTER}", ".ssm_norm.weight")


@dataclass(frozen=True)
class Departure:
    """An op whose value, or whose value's cotangent, is not the module's, and the ops that may be why."""

    op: CkOp
    module: str
    suspects: tuple[CkOp, ...]
    error: float


@dataclass(frozen=True)
class Modules:
    """What transformers' modules put out and what flowed back to it, by their parameter's name in ck."""

    outputs: Mapping[str, Array]
    cotangents: Mapping[str, Array]
    paths: Mapping[str, str]


def run_modules(problem: Problem, optim: OptimConfig) -> Modules:
    """One forward and backward pass of transformers' model in f64."""
    peer = Peer(problem.template, optim, "f64")
    peer.load(problem.weights, {}, 0)
    names = peer.outward.huggingface_names(problem.template.hp)
    paths = {name: theirs.rpartition(".")[0] for name, theirs in names.items() if _has_module(name, names)}
    outputs: dict[str, Any] = {}
    for name, path in paths.items():
        peer.model.get_submodule(path).register_forward_hook(_keep(outputs, name))
    batch = _as_batch(problem.rows)
    laid_out, places = peer.laid_out(batch)
    nll = peer.nll(batch)
    loss = nll.detach().numpy()[:, None]
    (nll * peer.torch.from_numpy(problem.slopes[:, 0].astype(np.float64))).sum().backward()

    def ours(name: str, values: Any) -> Array:
        width = values.shape[-1]
        by_head = values.ndim == 4 and values.shape[1] != laid_out.tokens.shape[1]
        values = (values.transpose(1, 2) if by_head else values).detach().numpy()
        rows = values.reshape(laid_out.tokens.size, -1)[places]
        if width != problem.template.shapes[name][0] or len(problem.template.shapes[name]) == 1:
            return rows
        # Columns lie as the weight's rows do.
        columns = {names[name]: np.ascontiguousarray(rows.T)}
        return peer.outward.from_huggingface(problem.template.hp, columns, "gradient")[name].T

    given = {name: ours(name, output) for name, output in outputs.items()}
    flowed = {name: ours(name, o.grad) for name, o in outputs.items() if o.grad is not None}
    return Modules(given | {LOSS: loss}, flowed, paths | {LOSS: "the loss"})


def _has_module(name: str, names: Mapping[str, str]) -> bool:
    """Whether transformers has a module that puts out what ck's op with this tensor does.

    A module with a bias puts out what the bias makes of the product. A recurrent layer's filters and its norm
    put out what is cut and gated; its decays and their steps' biases are parameters without a module.
    """
    is_module = names[name].endswith((".weight", ".bias")) and not name.endswith(_OTHERWISE)
    return is_module and f"{name.removesuffix('.weight')}.bias" not in names


def _keep(outputs: dict[str, Any], name: str) -> Any:
    def hook(module: Any, inputs: Any, output: Any) -> None:
        output.retain_grad()
        outputs[name] = output

    return hook


def _as_batch(rows: Rows) -> Batch:
    return Batch(rows.tokens[None], rows.targets[None], rows.positions[None], rows.starts[None])


def _counterparts(forward: Forward) -> dict[CkOp, str]:
    """The ops that have a module, in order, with the name of the parameter."""
    names = {value: name for name, value in forward.weights.items()}
    found: dict[CkOp, str] = {}
    for op in forward.ops:
        stored = [names[operand] for operand in op.operands if operand in names]
        if isinstance(op, CrossEntropyOp):
            found[op] = LOSS
        elif stored and not isinstance(op, EmbedOp):
            found[op] = stored[0]
    return found


def first_forward(forward: Forward, modules: Modules) -> Departure | None:
    """The first op, from the tokens on, whose value is not its module's."""
    ops = {op: name for op, name in _counterparts(forward).items() if name in modules.outputs}
    order = [op for op in forward.ops if op in ops]
    found = _first(order, ops, forward.values, modules.outputs)
    return None if found is None else _departure(found, _sources, ops, forward, modules)


def first_backward(forward: Forward, backward: Backward, modules: Modules) -> Departure | None:
    """The first op, from the loss back, to whose value something else flows back than to its module's."""
    ops = {op: name for op, name in _counterparts(forward).items() if name in modules.cotangents}
    order = [op for op in reversed(forward.ops) if op in ops]
    found = _first(order, ops, backward.cotangents, modules.cotangents)
    return None if found is None else _departure(found, _users, ops, forward, modules)


@dataclass(frozen=True)
class _Found:
    op: CkOp
    error: float
    agreed: tuple[CkOp, ...]


def _first(
    order: list[CkOp],
    names: Mapping[CkOp, str],
    values: Mapping[SSAValue, Any],
    theirs: Mapping[str, Array],
) -> _Found | None:
    """The first op of `order` whose first result differs, and those that agreed before."""
    agreed: list[CkOp] = []
    for op in order:
        ours, want = values.get(op.results[0]), theirs[names[op]]
        error = float("inf") if ours is None else _error(ours, want)
        if not error <= LIMIT:
            return _Found(op, error, tuple(agreed))
        agreed.append(op)
    return None


def _departure(
    found: _Found,
    step: Callable[[CkOp], Iterable[CkOp]],
    names: Mapping[CkOp, str],
    forward: Forward,
    modules: Modules,
) -> Departure:
    """`step` gives the ops that an op's value, or what flows back to it, is directly made by."""
    right = _reach(found.agreed, step)
    doubtful = _reach([found.op], step) - right
    if step is _users:
        # What flows back to a value is its users' doing.
        doubtful.discard(found.op)
    suspects = tuple(op for op in forward.ops if op in doubtful)
    return Departure(found.op, modules.paths[names[found.op]], suspects, found.error)


def _reach(ops: Iterable[CkOp], step: Callable[[CkOp], Iterable[CkOp]]) -> set[CkOp]:
    """`ops` and whatever is reached from them by steps."""
    reached = set(ops)
    left = list(reached)
    while left:
        new = set(step(left.pop())) - reached
        reached |= new
        left += new
    return reached


def _sources(op: CkOp) -> Iterable[CkOp]:
    return [operand.owner for operand in op.operands if isinstance(operand.owner, CkOp)]


def _users(op: CkOp) -> Iterable[CkOp]:
    uses = [use.operation for result in op.results for use in result.uses]
    return [user for user in uses if isinstance(user, CkOp)]


def _error(ours: Array, want: Array) -> float:
    if ours.size != want.size:
        return float("inf")
    apart, size = distance(ours.reshape(want.shape), want), norm(want)
    return apart / size if size else apart
