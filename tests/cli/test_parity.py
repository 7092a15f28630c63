"""`ck parity` as a person types it: the table, JSON, files, exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ck.ir.ops.silu import SiluOp
from tests.train.small_runs import words
from tests.train.test_parity_search import scaled

pytestmark = pytest.mark.oracle


@pytest.fixture
def run(ck_main: Callable[..., Any], training: Path) -> Path:
    """A run of two steps."""
    result = ck_main("train", "--run", "./run", "--steps", "2", "-t", "1", "--parity", "suggest", *words())
    assert result.code == 0, result.err
    assert "to compare this run with PyTorch: ck parity ./run" in result.err
    return training / "run"


def test_the_table(run: Path, ck_main: Callable[..., Any]) -> None:
    result = ck_main("parity", "./run")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].split() == ["check", "figure", "value", "limit", "where"]
    rows = [line for line in lines if line.startswith("gradients of step 1 ")]
    assert sum(" ok" in row for row in rows) == 3
    assert lines[-2:] == [
        f"report: {run}/reports/parity.json",
        f"{run}: 2 steps agree with PyTorch in 3 checks",
    ]


def test_json_and_files(run: Path, ck_main: Callable[..., Any]) -> None:
    result = ck_main("parity", "./run", "--json", "--steps", "1", "-t", "1", "-o", "p.json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert (report["schema_version"], report["passed"], report["steps"]) == (1, True, 1)
    assert report == json.loads(Path("p.json").read_text())
    assert report == json.loads((run / "reports" / "parity.json").read_text())
    figures = [figure for check in report["checks"] for figure in check["figures"]]
    # What has no limit says why.
    assert all(figure["reason"] for figure in figures if figure["limit"] is None)
    only = ck_main("parity", "./run", "--steps", "1", "-o", "-")
    assert json.loads(only.out)["steps"] == 1


def test_failure_is_one_line_that_names_the_op(
    training: Path, ck_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(training / "cache"))
    monkeypatch.setattr(SiluOp, "vjp", scaled(SiluOp.vjp, 1.01))
    words_of_run = ("train", "--run", "./run", "--steps", "2", "-t", "1", "--parity", "require", *words())
    result = ck_main(*words_of_run)
    assert result.code == 5
    last = result.err.splitlines()[-1]
    assert last.startswith(
        f"ck: parity: {training}/run: gradients of step 1, relative must be at most 1e-05, "
    )
    assert "first: ck.silu_bwd" in last
    assert "blk.1.ffn_gate.weight" in last
    again = ck_main("parity", "./run", "--steps", "1")
    assert again.code == 5
    assert len(again.err.splitlines()) == 1
    assert any("FAILED" in line for line in again.out.splitlines())


def test_no_such_run(ck_main: Callable[..., Any], training: Path) -> None:
    result = ck_main("parity", "./nothing")
    assert result.code == 2
    assert "must be a run directory, has no run.json" in result.err
