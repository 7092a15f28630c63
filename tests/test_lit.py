"""Every .mlir file under tests/ is a lit test, and a case here; every pass has one that checks something."""

from pathlib import Path

import pytest

from ck.passes.pipeline import PASSES
from tests.lit_inprocess import run_file, run_lines

TESTS = Path(__file__).parent
FILES = sorted(path for folder in ("passes", "invalid") for path in (TESTS / folder).rglob("*.mlir"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_lit(path: Path) -> None:
    failure = run_file(path)
    assert failure is None, failure


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_file_checks_what_it_runs(path: Path) -> None:
    text = path.read_text()
    assert run_lines(text), f"{path.name}: a RUN line is required"
    for line in run_lines(text):
        program, *checks = line.split("|")
        assert "%s" in program, f"{path.name}: {line}: reads %s"
        assert checks, f"{path.name}: {line}: ends in | filecheck %s"
        assert "filecheck %s" in checks[-1], f"{path.name}: {line}: ends in | filecheck %s"
    assert "CHECK" in text.replace("filecheck", ""), f"{path.name}: has no CHECK line"


@pytest.mark.parametrize("kind", PASSES, ids=lambda kind: kind.name)
def test_every_pass_has_a_file(kind) -> None:
    """tests/passes/<name without prefix>.mlir runs the pass."""
    path = TESTS / "passes" / f"{kind.name.split('-', 1)[1].replace('-', '_')}.mlir"
    assert path.is_file(), f"{kind.name}: wants {path.relative_to(TESTS.parent)}"
    assert any(kind.name in line for line in run_lines(path.read_text())), (
        f"{path.name}: does not run {kind.name}"
    )


def test_a_failing_check_is_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.mlir"
    wrong.write_text(
        "// RUN: ck-opt %s | filecheck %s\n// CHECK: func.func @g\nfunc.func @f() {\n  func.return\n}\n"
    )
    failure = run_file(wrong)
    assert failure
    assert "filecheck gave exit code 1" in failure
    wrong.write_text("// RUN: ck-opt %s | filecheck %s\n// CHECK: func\nfunc.func @f() {\n")
    failure = run_file(wrong)
    assert failure
    assert "ck-opt gave exit code 3" in failure
