"""Running `ck` in this process with a stand-in for the compiler, and what it left behind."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ck
from ck.cli.main import main
from tests.cli.stand_in import compiler


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def ck_main(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    """Call with the words of a command line; the cache and the working directory are empty ones."""
    for name in ("CK_THREADS", "CK_ISA_MASK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def call(*words: str) -> Result:
        code = main(list(words))
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A path that exists; the stand-in does not read it."""
    path = tmp_path / "a model.gguf"
    path.write_bytes(b"")
    return str(path)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Call to replace `ck.compile`; the list it returns gets the calls."""

    def install(**settings: Any) -> list[Any]:
        calls = list[Any]()
        monkeypatch.setattr(ck, "compile", compiler(calls=calls, **settings), raising=False)
        return calls

    return install
