"""What a pass's docstring shows is what it does: Before is run through the pass and must give After."""

import re
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.passes import ModulePass

from ck.ir.dialects import context
from ck.passes.pipeline import PASSES

FOLDER = Path(__file__).parents[1] / "ck" / "passes"
_SECTION = re.compile(r"^(Before|After):\n((?:(?:    .*)?\n)+)", re.MULTILINE)


def own_pass(path: Path) -> type[ModulePass] | None:
    """The pass that a module of ck/passes defines."""
    module = import_module(f"ck.passes.{path.stem}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, ModulePass) and value.__module__ == module.__name__
    ]
    assert len(found) <= 1, f"{path.name}: one pass a file, found {[kind.name for kind in found]}"
    return found[0] if found else None


FILES = [path for path in sorted(FOLDER.glob("*.py")) if own_pass(path)]


def examples(kind: type[ModulePass]) -> list[tuple[str, str]]:
    """The Before and After pairs of a pass's module, as IR text."""
    sections = _SECTION.findall(import_module(kind.__module__).__doc__ or "")
    names = [name for name, _ in sections]
    assert names == ["Before", "After"] * (len(names) // 2), f"{kind.name}: sections alternate, got {names}"
    texts = [dedent(text) for _, text in sections]
    return list(zip(texts[::2], texts[1::2], strict=True))


def parse(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


def normal(module: ModuleOp) -> str:
    """The module's text without the names of its values, which a pass may choose freely."""
    for op in module.walk():
        for value in (
            *op.results,
            *(arg for region in op.regions for block in region.blocks for arg in block.args),
        ):
            value.name_hint = None
    return str(module)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_before_becomes_after(path: Path) -> None:
    kind = own_pass(path)
    assert kind
    pairs = examples(kind)
    assert pairs, f"{path.name}: its docstring shows Before: and After:"
    for before, after in pairs:
        module = parse(before)
        kind().apply(context(), module)
        module.verify()
        assert normal(module) == normal(parse(after))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_names_agree(path: Path) -> None:
    """fuse_rows.py, `ck-fuse-rows`, FuseRowsPass: one word finds all of it."""
    kind = own_pass(path)
    assert kind
    assert re.sub("^(ck|rt)-", "", kind.name).replace("-", "_") == path.stem
    assert kind.__name__ == "".join(word.capitalize() for word in path.stem.split("_")) + "Pass"
    assert kind in PASSES, f"{kind.name} is not in the pipeline"


def test_a_wrong_docstring_is_seen() -> None:
    before, after = "func.func @f() {\n  func.return\n}\n", "func.func @g() {\n  func.return\n}\n"
    assert normal(parse(before)) != normal(parse(after))
    assert _SECTION.findall(f"Before:\n    {before}After:\n    {after}")
