"""The tree keeps to its design: who may import whom, who may know which names, how long things get."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ck.frontend.architectures import ARCHITECTURES
from ck.ir.ops import OPS
from ck.passes.pipeline import PASSES

ROOT = Path(__file__).parents[1]
CK = ROOT / "ck"
FILES = sorted(CK.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# What each part may import besides itself. `errors`, `dtypes` and `files` are everybody's.
COMMON = {"errors", "dtypes", "files"}
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "dtypes": set(),
    "files": set(),
    "ir": set(),
    "frontend": {"ir"},
    "passes": {"ir"},
    "backend": {"ir"},
    "runtime": {"backend", "passes", "frontend", "ir"},
    "evaluate": {"runtime", "frontend"},
    "train": {"runtime", "backend", "passes", "frontend", "ir"},
    "regression": {"train", "runtime", "backend", "passes", "frontend", "ir"},
    "cli": {"", "regression", "evaluate", "train", "runtime", "backend", "passes", "frontend", "ir"},
    # The package itself: `ck.compile`, `ck.template`, `ck.train`.
    "": {"train", "runtime", "frontend"},
}

FILE_LINES, FUNCTION_LINES = 400, 40
# Functions that are longer, and why.
LONG: dict[str, str] = {}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def part_of(path: Path) -> str:
    """The part of the tree a file belongs to: "ir", "cli", "errors", …; "" for ck/__init__.py."""
    first = path.relative_to(CK).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(path: Path) -> Iterator[str]:
    """Every ck module that a file imports, wherever in the file: `ck.ir.types`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "ck")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "ck":
                yield from (f"ck.{alias.name}" for alias in node.names)
            elif node.module and node.module.startswith("ck."):
                yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            # What is imported on first use counts as well.
            yield from (
                text for text in map(ast.literal_eval, filter(_is_text, node.args)) if text[:3] == "ck."
            )


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def code(path: Path) -> Iterator[tuple[int, str]]:
    """Names and strings of a file's code, with their lines: not its docstrings, not its comments."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree(path)):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                yield node.lineno, text
            case (
                ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name))
            ):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.alias(name=name):
                yield node.lineno, name
            case ast.ImportFrom(module=str(name)):
                yield node.lineno, name
            case _:
                pass


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_go_one_way() -> None:
    wrong = []
    for path in FILES:
        part = part_of(path)
        allowed = LAYERS[part] | COMMON | {part}
        for module in imports(path):
            target = module.split(".")[1] if "." in module else ""
            # `from ck import __version__` is a constant of the package, not the package's code.
            if target != "__version__" and target not in allowed:
                wrong.append(f"{shown(path)} imports {module}: {part or 'ck'} takes {sorted(allowed)}")
    assert not wrong, "\n".join(wrong)


# Names of classes of `rt` and of scf too.
SHARED = {"WeightOp", "CacheOp", "YieldOp"}


def test_emitters_know_no_op_of_ck() -> None:
    """They take `rt` and the upstream dialects; an op that they named would be an op that only they know."""
    names = re.compile(rf"\b({'|'.join(re.escape(op.name) for op in OPS)})\b")
    classes = {op.__name__ for op in OPS} - SHARED
    wrong = []
    for path in (path for path in FILES if part_of(path) == "backend"):
        wrong += [f"{shown(path)} imports {m}" for m in imports(path) if m.startswith("ck.ir.ops")]
        named = [(line, text) for line, text in code(path) if names.search(text) or text in classes]
        wrong += [f"{shown(path)}:{line} names {text}" for line, text in named]
    assert not wrong, "\n".join(wrong)


# A family's name, with or without its version; other projects and file formats are not families.
FAMILIES = sorted(
    {*ARCHITECTURES, *(name.rstrip("0123456789") for name in ARCHITECTURES)}, key=len, reverse=True
)
FAMILY = re.compile(rf"(?<![a-z])({'|'.join(FAMILIES)})(?!\.cpp|-bench|-perplexity)", re.IGNORECASE)
C_FILES = sorted(path for path in (ROOT / "runtime_c").rglob("*") if path.suffix in (".c", ".h", ".inc"))


def test_families_are_known_to_the_frontend_alone() -> None:
    """Outside ck/frontend/architectures no code names one; docstrings, comments and data may."""
    wrong = []
    for path in FILES:
        if CK / "frontend" / "architectures" not in path.parents:
            found = [(line, text) for line, text in code(path) if FAMILY.search(text)]
            wrong += [f"{shown(path)}:{line} names {text}" for line, text in found]
    for path in C_FILES:
        text = re.sub(r"//.*|/\*.*?\*/", "", path.read_text())
        if not {"tests", "bench"} & {*path.parts} and FAMILY.search(text):
            wrong.append(f"{shown(path)} names a family")
    assert not wrong, "\n".join(wrong)


def test_the_rule_sees_a_family() -> None:
    assert all(FAMILY.search(text) for text in ("llama", "gemma3", "Gemma", "is_gemma", "LlamaBuilder"))
    assert not any(FAMILY.search(text) for text in ("llama.cpp", "llama-bench", "ollama"))


def test_a_pass_has_a_file_of_its_name() -> None:
    for kind in PASSES:
        stem = kind.name.split("-", 1)[1].replace("-", "_")
        assert kind.__module__ == f"ck.passes.{stem}", f"{kind.name} stands in {kind.__module__}"


def test_an_op_has_a_file_of_its_name() -> None:
    """A gradient stands in its op's file, a terminator in that of the op whose region it ends."""
    for op in OPS:
        stem = op.__module__.rpartition(".")[2]
        assert op.__module__ == f"ck.ir.ops.{stem}"
        assert op.name.removeprefix("ck.").removesuffix("_bwd") in (stem, "yield"), (
            f"{op.name} is in {stem}.py"
        )


def test_files_are_short() -> None:
    lengths = {shown(path): len(path.read_text().splitlines()) for path in [*FILES, *TESTS, *C_FILES]}
    assert not {name: n_lines for name, n_lines in lengths.items() if n_lines > FILE_LINES}


def function_lengths() -> dict[str, int]:
    """Lines of every function of ck."""
    found = {}
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno
                found[f"{shown(path)}:{node.name}"] = node.end_lineno - node.lineno + 1
    return found


def test_functions_are_short() -> None:
    long = {name: n_lines for name, n_lines in function_lengths().items() if n_lines > FUNCTION_LINES}
    assert long.keys() == LONG.keys(), f"longer than {FUNCTION_LINES} lines: {long}; excepted: {LONG}"


def test_no_check_is_switched_off() -> None:
    """Exceptions stand in pyproject.toml with their reasons; imports name what they take."""
    switches = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:|ruff:|pylint:|fmt:\s*off)|from .* import \*")
    wrong = []
    for path in FILES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if switches.search(line):
                wrong.append(f"{shown(path)}:{number}: {line.strip()}")
    assert not wrong, "\n".join(wrong)
