"""Passes in any order that `EARLIER` allows, some of them left out, some run again: the meaning stays.

The orders are drawn from the smallest module of each level: tensors, tensors with kernels, buffers, and
buffers in an arena. After every pass the module is held against what it was before by the checker, at the
tier of that pass; at the end both backends compile it, and the programs are held against the interpreter and
each other. CK_ORDERS=1000 draws so many for each level.
"""

import os
import random
from collections.abc import Iterator, Sequence

import pytest
from xdsl.passes import ModulePass
from xdsl.transforms.common_subexpression_elimination import CommonSubexpressionElimination
from xdsl.transforms.dead_code_elimination import DeadCodeElimination
from xdsl.utils.exceptions import DiagnosticException

from ck.backend.backends import BACKENDS
from ck.ir.check.runs import entries
from ck.ir.dialects import context
from ck.passes.bufferize import BufferizePass
from ck.passes.expand_math import ExpandMathPass
from ck.passes.pipeline import EARLIER, OPTIONAL, ORDER, TRAINING_STAGES, Stage
from ck.passes.schedule_threads import ScheduleThreadsPass
from ck.passes.select_kernels import SelectKernelsPass
from ck.runtime.check import CompiledCheck
from tests.passes.small import NAMES, small_module

ANYWHERE = (CommonSubexpressionElimination, DeadCodeElimination)
# Each level by the first pass that is still to run, on the order of the pipeline.
LEVELS: dict[str, type[ModulePass]] = {
    "tensors": ORDER[0],
    "kernels": BufferizePass,
    "buffers": ExpandMathPass,
    "arena": ScheduleThreadsPass,
}
N_ORDERS = int(os.environ.get("CK_ORDERS", "1"))
# Chances that a pass which may be left out is, and that one is run again.
OMITTED, REPEATED = 0.3, 0.25

Order = tuple[type[ModulePass], ...]


def earlier(kind: type[ModulePass]) -> Iterator[type[ModulePass]]:
    """All that goes before `kind`, through others too."""
    for other in EARLIER.get(kind, ()):
        yield other
        yield from earlier(other)


def is_legal(order: Sequence[type[ModulePass]]) -> bool:
    """Whether no pass comes after one that it has to go before."""
    return all(later not in earlier(kind) for at, kind in enumerate(order) for later in order[at + 1 :])


def draw_order(kinds: Sequence[type[ModulePass]], rng: random.Random) -> Order:
    """A legal order of `kinds`, without some that are optional, with some repeated."""
    left = [kind for kind in kinds if kind not in OPTIONAL or rng.random() >= OMITTED]
    left += [kind for kind in (*left, *ANYWHERE) if rng.random() < REPEATED]
    order: list[type[ModulePass]] = []
    while left:
        free = [kind for kind in left if not any(other in earlier(kind) for other in left)]
        order.append(rng.choice(free))
        left.remove(order[-1])
    return tuple(order)


def test_the_pipeline_is_a_legal_order() -> None:
    assert is_legal(ORDER)
    assert set(OPTIONAL) <= set(ORDER)
    assert {*EARLIER, *(other for others in EARLIER.values() for other in others)} <= set(ORDER)
    free = [kind for kind in ORDER if kind not in EARLIER and kind is not ORDER[0]]
    assert tuple(free) == ANYWHERE, "a pass says what goes before it"


def test_orders_are_drawn_from_all_there_are() -> None:
    """They are legal, not all alike, leave passes out and repeat some."""
    orders = [draw_order(ORDER, random.Random(seed)) for seed in range(50)]
    assert all(is_legal(order) for order in orders)
    assert len(set(orders)) == len(orders)
    assert any(len(set(order)) < len(order) for order in orders)
    assert all(any(kind not in order for order in orders) for kind in OPTIONAL)
    assert all(kind in order for order in orders for kind in ORDER if kind not in OPTIONAL)
    assert not is_legal(ORDER[::-1])


def run_checked(name: str, level: str, order: Order) -> None:
    """Run `order` on a small module, each pass checked, and what comes out by both backends."""
    module = small_module(name, LEVELS[level])
    check = CompiledCheck(module)
    for kind in order:
        kind().apply(context(), module)
        module.verify()
        for line in check.checker.after(kind, module):
            assert line.compared or "new" in line.reason, f"{kind.name}: {line}"
    lines = list(check.compiled(module))
    assert len(lines) == len(BACKENDS) * len(entries(module))
    for made_by, line in lines:
        assert line.compared, f"{made_by}: {line}"


@pytest.mark.parametrize("seed", range(N_ORDERS))
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_any_legal_order_keeps_the_meaning(name: str, level: str, seed: int) -> None:
    kinds = ORDER[ORDER.index(LEVELS[level]) :]
    if name == "model" and level == "tensors":
        kinds = ORDER
    order = draw_order(kinds, random.Random(f"{name} {level} {seed}"))
    try:
        run_checked(name, level, order)
    except Exception as error:
        error.add_note(f"in the order {', '.join(kind.name for kind in order)}")
        raise


@pytest.mark.parametrize("stage", TRAINING_STAGES, ids=lambda stage: stage.name)
@pytest.mark.parametrize("name", NAMES)
def test_a_pass_in_the_wrong_place_says_so_or_does_no_harm(name: str, stage: Stage) -> None:
    """On every stage every pass: one line, or a module that verifies."""
    module = small_module(name, ORDER[0])
    for kind in ORDER[: ORDER.index(stage.passes[-1]) + 1] if stage.passes else ():
        kind().apply(context(), module)
    said: list[str] = []
    for kind in ORDER:
        tried = module.clone()
        try:
            kind().apply(context(), tried)
            tried.verify()
        except DiagnosticException as error:
            said.append(str(error))
    assert not any("\n" in line for line in said)


def test_an_illegal_order_is_seen() -> None:
    """What `EARLIER` forbids is told, here that kernels are chosen before rows are fused."""
    module = small_module("model", ORDER[0])
    with pytest.raises(DiagnosticException, match="run ck-fuse-rows before ck-select-kernels"):
        SelectKernelsPass().apply(context(), module)
