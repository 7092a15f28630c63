"""Fixtures that more than one folder of tests uses."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import cut_model, model_path
from tests.train.small_runs import corpus


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start: a job in the background inherits that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cut(pytestconfig: pytest.Config) -> Callable[..., Path]:
    """`cut(name, n_layers=2, n_vocab=None)`: a cut of a demo model, kept in pytest's cache between runs."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("ck-models")

    def make(name: str, n_layers: int = 2, n_vocab: int | None = None) -> Path:
        return cut_model(model_path(name), folder, n_layers, n_vocab)

    return make


@pytest.fixture(scope="session")
def training_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A CK_CACHE_DIR that all tests of one session share, so that each training program is compiled once."""
    base = tmp_path_factory.getbasetemp()
    cache = (base if worker_id == "master" else base.parent) / "training-cache"
    cache.mkdir(mode=0o700, exist_ok=True)
    return cache


@pytest.fixture
def training(training_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a text to train on, c.txt, under `training_cache`."""
    for name in ("CK_THREADS", "CK_ISA_MASK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CK_CACHE_DIR", str(training_cache))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.txt").write_text(corpus())
    return tmp_path


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """`measured(line)`: a figure worth reading although the test passed; printed at the end of the run."""
    return lambda line: record_property("measured", line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured. Reports, unlike output, come back from xdist's workers."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lines = [value for report in reports for key, value in report.user_properties if key == "measured"]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(str(line))
