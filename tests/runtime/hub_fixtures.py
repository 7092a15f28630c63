"""What tests that fetch share: a hub, an empty cache, and a session that knows nothing of this machine."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from ck.errors import CkError, NetworkError
from ck.runtime import hub_client
from ck.runtime.hub_cache import hub_cache_dir
from ck.runtime.resolve import resolve_model
from tests.runtime.hub_server import Asked, Fault, Handler, HubServer, Repository

SMALL = b'{"small": true}'
LARGE = bytes(range(256)) * 800
OTHER = bytes(range(255, -1, -1)) * 400
FILES = {"README.md": b"# it", "m-Q4_K_M.gguf": LARGE, "m-Q8_0.gguf": OTHER, "tiny.gguf": SMALL}
FOLDER = {"config.json": SMALL, "model.safetensors": LARGE, "tokenizer.json": b"{}", "x.bin": OTHER}
PARTS = {f"p-0000{i}-of-00003.gguf": bytes([i]) * (2000 * i) for i in (1, 2, 3)}
TOKEN = "hf_s3cr3tTOKEN"


def use_hub(hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything that fetches in this process and its children go to `hub`, with caches under `cache`."""
    for name in [name for name in os.environ if name.startswith("HF_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("TRANSFORMERS_OFFLINE", "HUGGINGFACE_HUB_CACHE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(cache / "hf"))
    monkeypatch.setenv("CK_CACHE_DIR", str(cache / "ck"))
    # Read when the library is imported: a token of this machine's user must not come in.
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "hf" / "token"))
    monkeypatch.setattr(hub_client, "WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(hub_client, "DEFAULT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(hub_client, "STALL_S", 0.2)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with a repository of GGUF files, a model folder and one of a file in parts."""
    repositories = {
        "org/name": Repository(dict(FILES)),
        "org/folder": Repository(dict(FOLDER)),
        "org/parts": Repository(dict(PARTS)),
    }
    with HubServer(repositories) as server:
        use_hub(server, tmp_path, monkeypatch)
        yield server


def at(kind: str, act: Callable[[Handler], object], times: int = 1 << 30) -> Fault:
    """Do `act` in place of the first answers to requests of this kind."""
    left = times

    def fault(handler: Handler, asked: Asked) -> bool:
        nonlocal left
        if asked.kind != kind or left == 0:
            return False
        left -= 1
        act(handler)
        return True

    return fault


def status(code: int, error: str = "", **headers: str) -> Callable[[Handler], object]:
    """An error as the hub words it."""
    return lambda handler: handler.refuse(code, error, {k.replace("_", "-"): v for k, v in headers.items()})


def cache_files() -> list[str]:
    """Names of what lies in the hub's cache, without locks."""
    root = hub_cache_dir()
    return sorted(path.name for path in root.rglob("*") if path.is_file() and ".locks" not in path.parts)


def fails(words: str, kind: type[CkError] = NetworkError, argument: str = "org/name") -> str:
    """The one line that `argument` ends in; nothing lies in the cache then."""
    with pytest.raises(kind) as caught:
        resolve_model(argument)
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
    assert "s3cr3t" not in message
    assert cache_files() == []
    return message
