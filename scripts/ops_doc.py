"""Write docs/ops.md from the ops' own docstrings: python scripts/ops_doc.py [--write]

Without --write nothing is written; exit code 1 says that the page is stale.
"""

import inspect
import sys
from pathlib import Path
from types import ModuleType

from ck.ir.op import CkOp, Differentiable, InPlace, KernelOp, RowWise, Updates
from ck.ir.ops import OPS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ops.md"

INTRODUCTION = """\
# The ops of the `ck` dialect

This page is written by `python scripts/ops_doc.py --write` from the ops' own files under `ck/ir/ops`; each
holds definition, shape rule, reference, gradient and lowering. Axes: T tokens, D model width, H heads, K head
width or columns of a weight, N rows of a weight, F hidden width, V vocabulary.

| op | computed by | gradient | in place |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    modules: dict[ModuleType, list[type[CkOp]]] = {}
    for op in OPS:
        module = inspect.getmodule(op)
        assert module is not None
        modules.setdefault(module, []).append(op)
    rows = "".join(_row(op) for op in OPS)
    return "\n".join([INTRODUCTION + rows, *(_section(module, ops) for module, ops in modules.items())])


def _row(op: type[CkOp]) -> str:
    gradient = "yes" if issubclass(op, Differentiable) else ""
    in_place = "yes" if issubclass(op, InPlace | Updates) else ""
    return f"| `{op.name}` | {_computed_by(op)} | {gradient} | {in_place} |\n"


def _computed_by(op: type[CkOp]) -> str:
    if issubclass(op, KernelOp):
        return "kernel"
    return "generated code" if issubclass(op, RowWise) else ""


def _section(module: ModuleType, ops: list[type[CkOp]]) -> str:
    names = ", ".join(f"`{op.name}`" for op in ops)
    path = f"ck/ir/ops/{module.__name__.rpartition('.')[2]}.py"
    own = (f"{op.name}: {inspect.cleandoc(vars(op)['__doc__'])}" for op in ops if vars(op).get("__doc__"))
    text = "\n\n".join([inspect.cleandoc(module.__doc__ or ""), *own])
    return f"## {names}\n\n[{path}](../{path})\n\n```text\n{text}\n```\n"


def main() -> int:
    """Write the page, or compare it."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(), "utf-8")
        return 0
    return int(not PAGE.is_file() or PAGE.read_text("utf-8") != page())


if __name__ == "__main__":
    sys.exit(main())
