"""Alerts: what counts as one, what the policies do with it, and the same decisions after a resume."""

import json
import math
from collections.abc import Iterable

import pytest

from ck.errors import GateError, InternalError
from ck.train.alerts import SKIP_LIMIT, Alerts

NAN, INF = math.nan, math.inf


def calm(alerts: Alerts, losses: Iterable[float] = (2.0,) * 50) -> int:
    """Feed a run without alerts; returns the next step."""
    step = 0
    for step, loss in enumerate(losses, 1):
        assert alerts.decide(step, loss, 1.0) == "ok", alerts.found
    return step + 1


def test_a_calm_run_has_no_alerts() -> None:
    alerts = Alerts()
    calm(alerts, (5 * 0.99**step + 0.2 * math.sin(step) for step in range(500)))
    assert alerts.found == ()


@pytest.mark.parametrize("loss", [NAN, INF, -INF])
def test_a_loss_that_is_no_number(loss: float) -> None:
    alerts = Alerts()
    assert alerts.decide(1, loss, 1.0) == "stop"
    (alert,) = alerts.found
    assert (alert.kind, alert.step) == ("not_a_number", 1)
    assert alert.message == f"the loss must be a finite number, found {loss}"


def test_a_norm_that_is_no_number_names_the_tensor() -> None:
    alerts = Alerts()
    norms = {"output_norm.weight": 1.0, "blk.0.attn_q.weight": NAN, "token_embd.weight": INF}
    assert alerts.decide(3, 2.0, NAN, norms) == "stop"
    line = "the gradient's norm must be a finite number, found nan, first in blk.0.attn_q.weight"
    assert [alert.message for alert in alerts.found] == [line]
    assert alerts.decide(3, 2.0, INF) == "stop"


def test_a_spike() -> None:
    """Losses 1 and 3 in turn: mean 2, std 1, so the limit is 2 + 6 * 1."""
    alerts = Alerts()
    step = calm(alerts, [1.0, 3.0] * 25)
    assert Alerts().decide(1, 1e9, 1.0) == "ok", "there is nothing to compare with yet"
    state = alerts.state()
    assert alerts.decide(step, 8.0, 1.0) == "ok"
    alerts.restore(state)
    assert alerts.decide(step, 8.001, 1.0) == "stop"
    (alert,) = alerts.found
    assert alert.kind == "spike"
    assert alert.message == "the loss must be at most 8 after the last 50 steps, found 8.001"


def test_a_spike_by_other_numbers() -> None:
    alerts = Alerts(window=4, deviations=2.0)
    step = calm(alerts, [1.0, 3.0, 1.0, 3.0])
    assert alerts.decide(step, 4.001, 1.0) == "stop"


def test_a_loss_that_stood_still_may_move() -> None:
    alerts = Alerts()
    step = calm(alerts)
    assert alerts.decide(step, 2.0 + 6 * 0.02, 1.0) == "ok"
    assert alerts.decide(step + 1, 2.5, 1.0) == "stop"


def test_dead_gradients() -> None:
    alerts = Alerts()
    assert alerts.decide(1, 2.0, 1e-12) == "ok"
    assert alerts.decide(1, 2.0, 9e-13) == "stop"
    assert [alert.message for alert in alerts.found] == [
        "the gradient's norm must be at least 1e-12, found 9e-13"
    ]
    norms = {"a": 1.0, "b": 0.0, "c": 0.0}
    assert alerts.decide(1, 2.0, 1.0, norms) == "stop"
    (alert,) = alerts.found
    assert alert.kind == "dead_gradient"
    assert alert.message == "every gradient must differ from 0, that of b and of 1 more is all zeros"
    assert alerts.decide(1, 2.0, 1.0, {"a": 1.0, "b": 1e-30}) == "ok"


def test_stop_ends_the_run_with_a_line() -> None:
    alerts = Alerts()
    step = calm(alerts)
    with pytest.raises(InternalError):
        alerts.error("")
    assert alerts.decide(step, 9.0, 0.0) == "stop"
    error = alerts.error("step 50 is saved")
    assert isinstance(error, GateError)
    assert error.exit_code == 5
    assert str(error) == (
        "step 51: the loss must be at most 2.12 after the last 50 steps, found 9; the gradient's norm must "
        "be at least 1e-12, found 0; step 50 is saved"
    )


def test_skip_leaves_out_the_update_but_not_for_ever() -> None:
    alerts = Alerts("skip")
    step = calm(alerts)
    for _ in range(2):
        for _ in range(SKIP_LIMIT - 1):
            assert alerts.decide(step, 9.0, 1.0) == "skip"
        assert alerts.decide(step, 2.0, 1.0) == "ok"
    decisions = [alerts.decide(step, NAN, 1.0) for _ in range(SKIP_LIMIT)]
    assert decisions == ["skip"] * (SKIP_LIMIT - 1) + ["stop"]
    assert "found nan in 10 steps in a row; go back" in str(alerts.error("go back"))


def test_resumed_decides_as_straight() -> None:
    losses = [2 + math.sin(step) for step in range(60)] + [NAN, 2.0, 9.9, 2.5, 40.0, *[50.0] * 12]
    straight = Alerts("skip")
    expected = [straight.decide(step, loss, 1.0) for step, loss in enumerate(losses)]
    assert {"ok", "skip", "stop"} == {*expected}
    for cut in range(0, len(losses), 3):
        first, second = Alerts("skip"), Alerts("skip")
        found = [first.decide(step, loss, 1.0) for step, loss in enumerate(losses[:cut])]
        second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
        found += [second.decide(step, loss, 1.0) for step, loss in enumerate(losses[cut:])]
        assert found == expected, f"cut at {cut}"
        assert second.state() == straight.state()
