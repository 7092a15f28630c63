"""The list of deliberate bugs fits the product, and two of them are found; `make mutations` tries all."""

import ast
import re
from collections import Counter

import pytest

from tests.mutations.bugs import KINDS, ROOT, Bug, Tree, all_bugs
from tests.mutations.run import detect

BUGS = all_bugs()
# What judges is not broken: references, and what kernels mean to the interpreter.
JUDGES = ("reference", "emulate")

every_bug = pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)


def judges(text: str) -> list[str]:
    """The functions of a module by which others are judged."""
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
    return [ast.dump(node) for node in functions if node.name in JUDGES]


@every_bug
def test_a_bug_can_be_put_in(bug: Bug) -> None:
    text = (ROOT / bug.file).read_text()
    broken = bug.put_into(text)
    assert broken != text
    assert bug.kind in KINDS
    if bug.file.endswith(".py"):
        assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text))
        assert judges(broken) == judges(text), f"{bug.name}: breaks a judge"


@every_bug
def test_interpreters_and_the_checker_stay_whole(bug: Bug) -> None:
    assert bug.file.startswith(("ck/", "runtime_c/"))
    assert not bug.file.startswith(
        ("ck/ir/check/", "ck/ir/evaluate", "ck/ir/rt/evaluate", "runtime_c/tests/")
    )


def test_there_are_bugs_of_every_kind() -> None:
    assert len(BUGS) >= 20
    assert len({bug.name for bug in BUGS}) == len(BUGS)
    counted = Counter(bug.kind for bug in BUGS)
    assert set(counted) == set(KINDS)
    assert min(counted.values()) >= 3


def test_results_are_told_of_every_bug() -> None:
    """docs/verification.md lists them as `make mutations` does, in order."""
    told = re.findall(
        r"^\| (.*?) \| `[^`]*` \| .* \| .* \|$", (ROOT / "docs" / "verification.md").read_text(), re.MULTILINE
    )
    assert [name for name in told if name in {bug.name for bug in BUGS}] == [bug.name for bug in BUGS]


def bug_called(name: str) -> Bug:
    return next(bug for bug in BUGS if bug.name == name)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("product"))


def test_the_check_names_the_pass_that_is_broken(tree: Tree) -> None:
    with tree.broken_by(bug_called("gate and up change places in a fused gate")):
        found = detect(tree, "check", 0)
    assert (found.caught, found.by, found.after) == (True, "ck-fuse-linear", 1), found.text


def test_a_random_graph_tells_the_optimizer_from_pytorch(tree: Tree) -> None:
    with tree.broken_by(bug_called("the optimizer's moments change places")):
        found = detect(tree, "graphs", 40)
    assert found.caught
    assert "PyTorch" in found.text


def test_a_tree_is_whole_again(tree: Tree) -> None:
    bug = BUGS[0]
    with tree.broken_by(bug):
        assert (tree.folder / bug.file).read_text() != (ROOT / bug.file).read_text()
    assert (tree.folder / bug.file).read_text() == (ROOT / bug.file).read_text()
