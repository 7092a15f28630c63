"""Progress without a terminal: few lines, none twice, no control characters."""

import io
import sys

import pytest

from ck.cli import progress

Captured = pytest.CaptureFixture[str]


def test_a_transfer_is_a_few_lines(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with progress.transfer("model") as show:
        for step in range(101):
            now[0] += 0.25
            show(step * 10**6, 100 * 10**6)
        show(100 * 10**6, 100 * 10**6)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"model: {done} of 100 MB" for done in (0, 40, 80, 100)]


def test_a_terminal_gets_a_bar_when_there_is_something_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with progress.transfer("model"):
        pass
    assert terminal.getvalue() == ""
    monkeypatch.undo()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.transfer("model") as show:
        show(3 * 10**6, 4 * 10**6)
    assert "model" in terminal.getvalue()
    assert "3.0/4.0 MB" in terminal.getvalue()


def test_a_status_is_silent(capsys: Captured) -> None:
    with progress.Status("loading") as status:
        status.show("compiling")
    assert progress.prompt_progress() is None
    assert capsys.readouterr().err == ""
