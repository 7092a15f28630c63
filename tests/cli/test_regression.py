"""`ck regression` as a person types it: every family passes, what fails is told, files, exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ck.frontend.architectures.templates import TEMPLATES
from ck.ir.ops.silu import SiluOp
from ck.regression import matrix
from ck.regression.matrix import KINDS
from ck.train.parity import pytorch
from tests.train.test_parity_search import scaled

pytestmark = pytest.mark.oracle


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_every_family_passes(
    kind: str, tmp_path: Path, ck_main: Callable[..., Any], measured: Callable[[str], None]
) -> None:
    result = ck_main("regression", kind, "--fast", "-o", "made/here", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    kept = json.loads((tmp_path / "made" / "here" / f"{kind}-fast.json").read_text())
    assert kept == found
    assert [row["family"] for row in found["rows"]] == [*TEMPLATES]
    assert found["columns"] == [*KINDS[kind].columns]
    null = set()
    for row in found["rows"]:
        assert [check["name"] for check in row["checks"]] == found["columns"]
        assert row["passed"] is True
        null |= {check["name"] for check in row["checks"] if check["passed"] is None}
        measured(f"regression {kind} --fast, {row['family']}: {row['wall_s']} s")
    # 12 steps are not the canary's 200, and say so.
    assert null == ({"canary"} if kind == "training" else set())
    text = (tmp_path / "made" / "here" / f"{kind}-fast.md").read_text()
    assert all(f"| {name} |" in text for name in (*TEMPLATES, *found["columns"]))
    assert kind == "inference" or "limits are the canary's, this run has steps compared 12" in text


def test_a_gradient_that_is_wrong(
    tmp_path: Path, ck_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SiluOp, "vjp", scaled(SiluOp.vjp, 1.001))
    result = ck_main("regression", "training", "--families", "llama,qwen3", "--stop-on-fail")
    assert result.code == 5
    assert result.err.startswith("ck: regression training: llama, gradients, relative must be at most 1e-05")
    rows = json.loads((tmp_path / "build" / "regression" / "training-fast.json").read_text())["rows"]
    # The rest of the row and the other one are left out.
    assert [check["passed"] for check in rows[0]["checks"]] == [True, False] + [None] * 7
    assert {check["passed"] for check in rows[1]["checks"]} == {None}
    assert rows[1]["checks"][0]["figures"][0]["reason"] == "an earlier check failed"
    assert "FAIL llama, gradients: relative, blk." in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--families", "lama"], 2, "--families: each is one of gemma3, llama"),
        (["--families", ""], 2, "--families: each is one of gemma3, llama"),
        (["-o", "file"], 2, "file: must be a folder"),
    ],
)
def test_usage(
    arguments: list[str], code: int, message: str, tmp_path: Path, ck_main: Callable[..., Any]
) -> None:
    (tmp_path / "file").touch()
    result = ck_main("regression", "training", *arguments)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(f"ck: {message}")


def test_a_machine_that_lacks_something(
    tmp_path: Path, ck_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(matrix, "available_memory_bytes", lambda: 1023 << 20)
        result = ck_main("regression", "training")
    message = "regression training --fast: 1024 MiB of free memory are required, found 1023 MiB; close"
    assert (result.code, message in result.err) == (8, True)

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(pytorch, "import_module", missing)
    result = ck_main("regression", "inference")
    assert (result.code, "run: pip install 'ck-engine[train]'" in result.err) == (6, True)
