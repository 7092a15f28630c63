"""What may be amiss around a fetch: network, proxy, certificates, disk, cache, settings; one line each."""

import errno
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from ck.errors import MachineError, ResourceError, UsageError
from ck.runtime.hub_fetch import plan_fetch
from ck.runtime.hub_name import HubName
from ck.runtime.resolve import resolve_model
from tests.runtime.hub_fixtures import LARGE, at, fails, hub, status
from tests.runtime.hub_server import HubServer

__all__ = ["hub"]

SELF_SIGNED = Path(__file__).parents[1] / "data" / "hub" / "self_signed.pem"


def test_nobody_listens(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        fails("takes no connection; check the network and HF_ENDPOINT")


def test_a_timeout_of_ages(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "9" * 20)
    assert resolve_model("org/name").read_bytes() == LARGE


def test_no_address(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("HF_ENDPOINT", "http://hub.test")
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    fails("hub.test has no address; check the network and HF_ENDPOINT")


def test_a_certificate_that_nobody_vouches_for(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer(hub.repositories, certificate=SELF_SIGNED) as other:
        monkeypatch.setenv("HF_ENDPOINT", other.address)
        fails("must verify, found self-signed certificate; see SSL_CERT_FILE")


def test_no_tls(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.address.replace("http:", "https:"))
    fails("does not speak TLS")


def test_a_proxy_that_refuses(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.test")
    monkeypatch.setenv("HTTPS_PROXY", hub.address.replace("http://", "http://user:s3cr3t@"))
    # A session has the proxies of the time it was made.
    huggingface_hub.close_session()
    try:
        fails("the proxy refuses hub.test; check HTTPS_PROXY and NO_PROXY")
    finally:
        huggingface_hub.close_session()


def test_an_endpoint_with_a_password(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.address.replace("http://", "http://user:s3cr3t@"))
    hub.fault = at("info", status(403))
    fails("127.0.0.1:")


def test_no_room(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    message = fails("needs 17 MB free in ", ResourceError)
    assert "found 1.0 MB; free some or set HF_HUB_CACHE to another disk" in message
    assert hub.kinds() == ["info"]
    with pytest.raises(ResourceError, match=re.escape(message)):
        plan_fetch(HubName("org/name"))


def test_a_disk_that_fills_up(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(
            ResourceError, match=r"no space left on device; free some .*: it goes on from there"
        ):
            resolve_model("org/name")
    assert resolve_model("org/name").read_bytes() == LARGE


def test_a_cache_that_cannot_be_one(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    message = fails("file: must be a writable directory, not a directory; set HF_HUB_CACHE", MachineError)
    with pytest.raises(MachineError, match=re.escape(message)):
        plan_fetch(HubName("org/name"))
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "file"))
    fails("file/models: must be a writable directory, ", MachineError)
    with pytest.raises(MachineError, match="file/models: must be a writable directory, "):
        plan_fetch(HubName("org/name"))


@pytest.mark.parametrize(
    "address",
    [
        "hub.test",
        "https://",
        "ftp://hub.test",
        "s3cr3t",
        "http://hub.test:99999",
        "http://h:s3cr3t",
        "http://[::1",
    ],
)
def test_an_endpoint_that_is_none(address: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    fails("HF_ENDPOINT: must be a web address, such as https://huggingface.co, it is none", UsageError)


@pytest.mark.parametrize(
    ("variable", "text"), [("HTTPS_PROXY", "s3cr3t:x"), ("SSL_CERT_FILE", "/no/file.pem")]
)
def test_surroundings_that_do_not_work(
    variable: str, text: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface_hub.close_session()
    monkeypatch.setenv(variable, text)
    fails("HTTPS_PROXY and SSL_CERT_FILE must serve to make a connection, they do not", MachineError)


def test_a_library_that_is_offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fails("huggingface_hub was loaded offline; start again without that")


def test_a_reader_of_the_progress_that_is_gone_is_no_broken_connection(hub: HubServer) -> None:
    def gone(done: int, total: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        resolve_model("org/name", gone)
    assert [asked.kind for asked in hub.asked] == ["info", "file", "large"]


def test_without_the_library(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    fails("fetching needs huggingface_hub 2, it is missing; run: pip install 'ck-engine[hub]'", MachineError)
