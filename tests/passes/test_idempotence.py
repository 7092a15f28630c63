"""A pass that is run a second time finds nothing to do: its own result is what it is after.

On the module of its docstring, and in its place in the pipeline on the smallest model and its training.
"""

from collections.abc import Iterator

import pytest
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.transforms.canonicalize import CanonicalizePass

from ck.cli.opt import CkOpt
from ck.ir.dialects import context
from ck.passes.pipeline import ORDER, PASSES
from tests.passes.small import DATA, NAMES, small_module
from tests.test_pass_docstrings import examples, parse


def before(kind: type[ModulePass]) -> Iterator[tuple[str, ModuleOp]]:
    """Modules as `kind` finds them, each with where it is from."""
    for number, (text, _) in enumerate(examples(kind) if kind in PASSES else ()):
        yield f"docstring {number}", parse(text)
    for name in NAMES:
        yield name, small_module(name, kind)
        if kind not in PASSES:
            yield f"{name} as written", small_module(name)


@pytest.mark.parametrize("kind", [*ORDER, CanonicalizePass], ids=lambda kind: kind.name)
def test_a_second_time_changes_nothing(kind: type[ModulePass]) -> None:
    changed = False
    for name, module in before(kind):
        found = str(module)
        kind().apply(context(), module)
        module.verify()
        once = str(module)
        changed |= once != found
        kind().apply(context(), module)
        module.verify()
        assert str(module) == once, f"{kind.name} again on {name}"
    assert changed or kind is CanonicalizePass, f"{kind.name} has nothing to do on any module"


def test_no_pass_is_left_out() -> None:
    """What `ck-opt` takes by name is tried here."""
    tool = CkOpt("", [str(DATA / "small_model.mlir")])
    assert set(tool.available_passes) == {kind.name for kind in (*ORDER, CanonicalizePass)}


class Grows(ModulePass):
    """Adds a function each time."""

    name = "grows"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        op.body.block.add_op(func.FuncOp.external(f"f{len(op.body.block.ops)}", [], []))


def test_a_pass_that_goes_on_is_seen() -> None:
    with pytest.raises(AssertionError, match="grows again on model"):
        test_a_second_time_changes_nothing(Grows)
