"""The checked road from a graph to a program leaves a file wherever it ends."""

from pathlib import Path

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from ck.backend.backends import CBackend
from ck.cli import opt
from ck.ir.check.failure import CheckFailure
from ck.ir.ops.linear import LinearOp
from ck.passes.fuse_linear import FuseLinearPass
from ck.passes.reproducer import PassCrash, read_reproducer
from ck.runtime.check import check_road
from tests.graphs.fixed import random_graph


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleOp:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    return random_graph(3).module


def replayed(error: Exception, folder: Path) -> tuple[str, bool, int]:
    """What the reproducer that `error` notes runs, whether it checks, and how it ends."""
    (file,) = (folder / "reproducers").iterdir()
    assert error.__notes__ == [f"{file} holds the IR before it; to replay it: ck-opt --reproduce {file}"]
    found = read_reproducer(file)
    return found.passes, found.check, opt.run(["--reproduce", str(file)])


def test_a_pass_that_changes_the_meaning(
    module: ModuleOp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = FuseLinearPass.apply

    def wrong(self: FuseLinearPass, context: Context, module: ModuleOp) -> None:
        """Forgets the residuals."""
        right(self, context, module)
        for op in module.walk():
            if isinstance(op, LinearOp) and op.residual is not None:
                op.operands = op.operands[:2]

    monkeypatch.setattr(FuseLinearPass, "apply", wrong)
    lines: list[str] = []
    with pytest.raises(CheckFailure, match="ck-fuse-linear changes what @prefill computes") as failure:
        check_road(module, {}, lines.append)
    assert any(line.startswith("ops by operand: ") for line in lines)
    assert replayed(failure.value, tmp_path) == ("ck-fuse-linear", True, 5)
    monkeypatch.setattr(FuseLinearPass, "apply", right)
    assert replayed(failure.value, tmp_path) == ("ck-fuse-linear", True, 0)


def test_a_pass_that_crashes(module: ModuleOp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FuseLinearPass, "apply", lambda self, context, module: {}["gate"])
    with pytest.raises(PassCrash, match="ck-fuse-linear raised KeyError: 'gate'") as crash:
        check_road(module, {}, lambda line: None)
    assert replayed(crash.value, tmp_path) == ("ck-fuse-linear", False, 70)


def test_a_backend_that_is_wrong(module: ModuleOp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emit = CBackend.emit
    monkeypatch.setattr(
        CBackend, "emit", lambda self, module: emit(self, module).replace("ck_rope(", "(void)(")
    )
    with pytest.raises(CheckFailure, match="c on 1 thread, against the interpreter") as failure:
        check_road(module, {}, lambda line: None, backends=("c",))
    assert replayed(failure.value, tmp_path) == ("", True, 5)
