"""The smallest modules on which every pass has something to do, from tests/data/small_*.mlir."""

from functools import cache
from pathlib import Path

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from ck.ir.dialects import context
from ck.passes.pipeline import ORDER, run_pass
from tests.passes.programs import parse

DATA = Path(__file__).parents[1] / "data"
NAMES = ("model", "training")


@cache
def _graph(name: str) -> ModuleOp:
    return parse((DATA / f"small_{name}.mlir").read_text())


def small_module(name: str, before: type[ModulePass] | None = None) -> ModuleOp:
    """The module as the pipeline finds it before a pass; as it is written for one outside, or for None."""
    module = _graph(name).clone()
    for kind in ORDER[: ORDER.index(before)] if before in ORDER else ():
        run_pass(context(), module, kind)
    return module
