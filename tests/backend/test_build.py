"""The compiler's command is the user's: whatever stands in $CC ends in a program or in one line."""

import subprocess
from pathlib import Path

import pytest

from ck.backend.c.build import build_object, compiler, compiler_identity
from ck.errors import MachineError


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_variable_is_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    default = compiler_identity()
    monkeypatch.setenv("CC", given)
    assert compiler() == ["cc"]
    assert compiler_identity() == default


def test_an_open_quote_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", '"gcc')
    for ask in (compiler_identity, compiler):
        with pytest.raises(MachineError, match="no closing quotation"):
            ask()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("no-such-compiler", "no-such-compiler is not on PATH"),
        ("false", "false failed, exit code 1: it says nothing"),
        ("cc --no-such-flag", "cc --no-such-flag failed, exit code 1: .*error"),
        ("true", "true made no program"),
    ],
)
def test_a_compiler_that_makes_nothing_is_one_line(
    given: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", given)
    source = tmp_path / "program.c"
    source.write_text("int one;\n")
    with pytest.raises(MachineError, match=words) as caught:
        build_object(source, tmp_path / "program.so", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_compiler_that_ended_with_the_same_interrupt_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(started: "subprocess.Popen[str]", timeout: float) -> None:
        started.wait(timeout)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    monkeypatch.setenv("CC", "true")
    with pytest.raises(KeyboardInterrupt):
        build_object(tmp_path / "program.c", tmp_path / "program.so", tmp_path)
