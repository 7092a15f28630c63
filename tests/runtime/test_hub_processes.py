"""Fetching from a hub in processes of its own: without a socket, two at once, stopped in the middle."""

import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest

from ck.errors import NetworkError
from ck.runtime.hub_cache import CachedRepository
from ck.runtime.resolve import resolve_model
from tests.runtime.hub_fixtures import LARGE, hub
from tests.runtime.hub_server import COMMIT, Asked, Handler, HubServer, digest

__all__ = ["hub"]

CACHED = CachedRepository("org/name")

SOCKETS = """
import socket, sys
def refuse(*a, **k):
    raise AssertionError("a socket")
socket.socket.__init__ = socket.getaddrinfo = socket.create_connection = refuse
from ck.runtime.resolve import resolve_model
print(resolve_model(sys.argv[1]))
assert not {"huggingface_hub", "httpx2", "ssl"} & set(sys.modules), "imported"
"""


def test_offline_opens_no_socket(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {name: resolve_model(name) for name in ("org/name", "org/folder")}
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, path in paths.items():
        command = [sys.executable, "-c", SOCKETS, name]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (child.stderr, child.stdout) == ("", f"{path}\n")
    with pytest.raises(NetworkError) as caught:
        resolve_model("org/name:Q8_0")
    assert str(caught.value).endswith("not whole; unset that and run: ck pull org/name:Q8_0")
    with pytest.raises(NetworkError, match=r"must be in .* when HF_HUB_OFFLINE is set, it is not"):
        resolve_model("org/other")
    assert hub.asked == []


SCRIPT = """
import sys
from ck.runtime.resolve import resolve_model
print(resolve_model(sys.argv[1]), flush=True)
"""


def start(name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Slow:
    """Sends half of a large file, then waits to be let go; what the others get is whole."""

    def __init__(self) -> None:
        self.half, self.go = threading.Event(), threading.Event()

    def __call__(self, handler: Handler, asked: Asked) -> bool:
        if asked.kind != "large" or self.half.is_set():
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(LARGE)))
        handler.end_headers()
        handler.wfile.write(LARGE[:100_000])
        self.half.set()
        self.go.wait(30)
        handler.wfile.write(LARGE[100_000:])
        handler.close_connection = True
        return True


def test_two_processes_fetch_one_model(hub: HubServer) -> None:
    slow = Slow()
    hub.fault = slow
    children = [start("org/name")]
    assert slow.half.wait(30)
    children.append(start("org/name"))
    while hub.kinds().count("info") < 2:
        time.sleep(0.01)
    slow.go.set()
    for child in children:
        out, err = child.communicate(timeout=60)
        assert (child.returncode, err) == (0, "")
        assert Path(out.strip()).read_bytes() == LARGE
    # The second one waited, and found it.
    assert hub.kinds().count("large") == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_a_fetch_that_was_stopped_is_gone_on_with(how: signal.Signals, hub: HubServer) -> None:
    slow = Slow()
    hub.fault = slow
    child = start("org/name")
    part = CACHED.part(digest(LARGE))
    while not part.is_file() or part.stat().st_size < 100_000:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(how)
    child.communicate(timeout=30)
    slow.go.set()
    assert not CACHED.snapshot(COMMIT).exists()
    assert resolve_model("org/name").read_bytes() == LARGE
    assert [asked.headers.get("range") for asked in hub.asked if asked.kind == "large"] == [
        None,
        "bytes=100000-",
    ]
    assert sorted(p.name for p in (CACHED.path / "blobs").iterdir()) == [digest(LARGE)]


def test_a_file_needs_nothing_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"")
    script = """
import sys
from ck.runtime.resolve import resolve_model
resolve_model(sys.argv[1])
print([name for name in sys.modules if "hub_" in name or name == "huggingface_hub"])
"""
    command = [sys.executable, "-c", script, str(tmp_path / "x.gguf")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_library_belongs_to_the_client_and_is_no_dependency_of_ck() -> None:
    root = Path(__file__).parents[2]
    users = {
        p.name
        for p in (root / "ck").rglob("*.py")
        if re.search(r"^ *(import|from) (huggingface_hub|httpx2)", p.read_text(), re.M)
    }
    assert users == {"hub_client.py", "hub_errors.py"}
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert not any("huggingface" in text for text in project["dependencies"])
    assert [text.partition(">")[0] for text in project["optional-dependencies"]["hub"]] == ["huggingface_hub"]
