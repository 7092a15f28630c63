"""The matrix: wrong logits, bits, runs and tensors fail their checks; errors, and what cannot be made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ck.errors import GateError, MachineError, MalformedError, UnsupportedError
from ck.frontend.architectures import ARCHITECTURES
from ck.regression import inference, matrix
from ck.regression.gradients import Gradients
from ck.regression.matrix import run_matrix
from ck.regression.models import model_of, random_weights
from ck.regression.report import summary
from ck.regression.training import FAST, TrainingChecks
from ck.train.parity.figures import Check, Figure

pytestmark = pytest.mark.oracle

ONE = min(ARCHITECTURES)


def test_logits_that_are_wrong(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = inference.transformers_model

    def other(hp: Any, weights: Any) -> Any:
        last = "output_norm.weight"
        return right(hp, {**weights, last: weights[last] * np.float32(1.01)})

    monkeypatch.setattr(inference, "transformers_model", other)
    found = run_matrix("inference", "fast", [ONE], lambda _: None)
    verdicts = {check.name: check.passed for check in found.rows[0].checks}
    assert {name for name, passed in verdicts.items() if not passed} >= {"chunks", "one by one"}
    # What is compared with ck itself is right.
    assert all(verdicts[name] for name in ("saved state", "threads", "backends", "folder"))
    with pytest.raises(GateError, match=f"regression inference: {ONE}, chunks, max .difference. must be"):
        found.require()


def test_bits_that_differ() -> None:
    want = np.zeros((3, 4), np.float32)
    got = want.copy()
    got[1, 2] = -0.0
    assert inference.rows_that_differ("x", want, got).passed is True
    got[1, 2] = np.float32(1e-45)
    assert inference.rows_that_differ("x", want, got) == Figure("x", 1, 0, "first 1")
    assert inference.rows_that_differ("x", want, None, "no").passed is None


@pytest.mark.parametrize("changed", ["weights.safetensors", "optimizer.safetensors", "metrics.jsonl"])
def test_a_run_that_is_another(changed: str, training: Path) -> None:
    checks = TrainingChecks(ONE, FAST, training)
    ours = checks._run
    assert checks._same("replay", ours).passed is True
    other = checks._train("other")
    path = other / changed
    path = path if path.exists() else other / "checkpoints" / f"step-{checks.profile.steps}" / changed
    data = bytearray(path.read_bytes())
    at = data.rindex(b'"loss": ') + 10 if changed == "metrics.jsonl" else len(data) - 1
    data[at : at + 1] = b"7" if data[at : at + 1] != b"7" else b"8"
    path.write_bytes(bytes(data))
    assert checks._same("replay", other).passed is False


def test_tensors_that_are_on_one_side_or_have_no_gradient(training: Path) -> None:
    model = model_of(ONE, "small")
    both = Gradients(model, random_weights(model), 9, ["c"])
    tensors, gradients = both.compare([9])
    assert (tensors.passed, gradients.passed) == (True, True)
    assert gradients.figures[2].reason == "one backend"
    name = sorted(both.peer.ours)[0]
    ours = both.peer.ours.pop(name)
    tensors, _ = both.compare([9])
    assert {figure.name: figure.where for figure in tensors.figures[1:]} == {
        "tensors on one side": f"{ours}, {name}" if ours < name else f"{name}, {ours}",
        "tensors without a gradient": ours,
    }


def test_errors_and_what_cannot_be_made() -> None:
    def ends_with(error: Exception) -> Callable[[], list[Check]]:
        def part() -> list[Check]:
            raise error

        return part

    (failed,) = matrix._made(("a",), ends_with(MalformedError("x: bad")))
    assert (failed.passed, failed.figures[0].where) == (False, "x: bad")
    (defect,) = matrix._made(("a",), ends_with(KeyError("odd")))
    assert (defect.passed, defect.figures[0].where) == (False, "KeyError: 'odd'")
    assert "raise error" in "".join(defect.detail["traceback"])
    with pytest.raises(MachineError):
        matrix._made(("a",), ends_with(MachineError("no compiler")))
    first, second = matrix._made(("a", "b"), ends_with(UnsupportedError("no such model")))
    assert (first.name, first.passed, second.figures[0].reason) == ("a", None, "no such model")
    row = matrix.Row("f", (failed, first), 0.0)
    found = matrix.Matrix("training", "fast", ("a", "b"), (row,))
    assert summary(found)[1] == ["f", "FAIL 1.0e+00", "null", "0.0"]
    with pytest.raises(GateError, match="one check at least must be made, found none"):
        matrix.Matrix("training", "fast", ("b",), (matrix.Row("f", (second,), 0.0),)).require()
