"""What a hub may answer, and what may become of that on the way: one line, an exit code, a clean cache."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from ck.errors import NetworkError, UsageError
from ck.runtime import hub_client
from ck.runtime.resolve import resolve_model
from tests.runtime.hub_fixtures import LARGE, TOKEN, at, cache_files, fails, hub, status
from tests.runtime.hub_server import Fault, Handler, HubServer

__all__ = ["hub"]


def body(data: bytes, length: int | None = None, **headers: str) -> Callable[[Handler], object]:
    fields = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return lambda handler: handler.send(200, data, fields, length)


def listing(change: Callable[[Any], object]) -> Fault:
    """The true listing, changed."""

    def act(handler: Handler) -> None:
        data = handler.hub.repositories["org/name"].listing()
        change(data)
        handler.send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    return at("info", act)


def file(index: int, **fields: object) -> Fault:
    return listing(lambda data: data["siblings"][index].update(fields))


def redirect(to: str) -> Callable[[Handler], object]:
    return lambda handler: handler.send(302, b"", {"Location": to})


def endless(handler: Handler) -> None:
    handler.begin_chunks()
    for _ in range(10_000):
        handler.chunk(b"[" * (1 << 16))


def trickle(handler: Handler) -> None:
    handler.begin_chunks()
    for _ in range(100):
        handler.chunk(b"[")
        # Until the other side has had enough of it.
        handler.connection.settimeout(0.05)
        try:
            handler.connection.recv(1)
            break
        except TimeoutError:
            continue


def silence(handler: Handler) -> None:
    handler.connection.settimeout(2)
    with suppress(TimeoutError):
        handler.connection.recv(1)
    handler.cut()


def stalled(handler: Handler) -> None:
    handler.send(200, LARGE[:5000], {}, len(LARGE))
    handler.wfile.flush()
    silence(handler)


PAGE = body(b"<html>log in</html>", Content_Type="text/html; charset=utf-8")
NEST = b'{"sha":' + b"[" * 50_000

# What goes wrong, where, and the words it gets; the argument is org/name, or what the last field says.
HUB: list[tuple[str, Fault, str]] = [
    (
        "no such repository",
        at("info", status(404, "RepoNotFound")),
        "has no such repository, or it is private and HF_",
    ),
    (
        "a private one",
        at("info", status(401, "RepoNotFound")),
        "has no such repository, or it is private and HF_TOKEN",
    ),
    (
        "unauthorised",
        at("info", status(401)),
        "has no such repository, or it is private and HF_TOKEN is not set",
    ),
    (
        "no such revision",
        at("info", status(404, "RevisionNotFound")),
        "has the repository, but no such revision",
    ),
    ("gated", at("info", status(403, "GatedRepo")), "is gated; accept its terms at"),
    ("a gated file", at("file", status(403, "GatedRepo")), "then set HF_TOKEN to a token of that account"),
    ("a file that went", at("file", status(404, "EntryNotFound")), "m-Q4_K_M.gguf: "),
    ("gone", at("info", status(410)), "has no such repository"),
    ("forbidden", at("info", status(403)), "denies access (403)"),
    ("a bad request", at("info", status(400)), "must answer 200, it answered 400; check HF_ENDPOINT"),
    ("no content", at("info", status(204)), "must answer 200, it answered 204"),
    (
        "too many requests",
        at("info", status(429, Retry_After="77")),
        "too many requests (429); try again in 77 s",
    ),
    ("until a date", at("info", status(429, Retry_After="Wed, 21 Oct 2026")), "(429); try again later"),
    ("too many for a file", at("file", status(429, Retry_After="5")), "(429); try again in 5 s"),
    ("a broken server", at("info", status(500)), "answered 500, 3 times in a row; try again later"),
    ("a broken store", at("large", status(502)), "answered 502, 3 times in a row"),
    ("maintenance", at("info", status(503)), "answered 503, 3 times in a row"),
    ("a time limit of its own", at("info", status(408)), "answered 408, 3 times in a row"),
    ("an end before the answer", at("info", Handler.cut), "broke the connection off, 3 times in a row"),
    (
        "an end in the listing",
        at("info", body(b'{"sha":', 500)),
        "broke the connection off, 3 times in a row",
    ),
    (
        "an end in a file",
        at("large", body(LARGE[:5000], len(LARGE))),
        "broke the connection off, 3 times in a row",
    ),
    (
        "a file without a byte",
        at("large", body(b"", len(LARGE))),
        "broke the connection off, 3 times in a row",
    ),
    ("no answer", at("info", silence), "sent nothing for too long, 3 times in a row"),
    ("a file that stops", at("large", stalled), "sent nothing for too long, 3 times in a row"),
    ("a trickle", at("info", trickle), "sent fewer than 4096 bytes in 0.2 s, 3 times in a row"),
    ("a circle", at("info", redirect("/api/models/org/name/revision/main?again")), "redirects in circles"),
    ("a circle for a file", at("file", redirect("/org/name/resolve/x/y")), "redirects in circles"),
    ("a scheme", at("file", redirect("file:///etc/passwd")), "redirects to no web address"),
    ("another scheme", at("info", redirect("ftp://127.0.0.1/x")), "redirects to no web address"),
    ("a page for the listing", at("info", PAGE), "must send the list of files, it sent a web page"),
    ("a page for a file", at("file", PAGE), "must send the file, it sent a web page"),
    ("no JSON", at("info", body(b"hello")), "must list the files, it sent other JSON, or none"),
    ("half of JSON", at("info", body(b'{"sha": "0123')), "must list the files, it sent other JSON, or none"),
    ("no text", at("info", body(b"\xff\xfe\x00")), "must list the files, it sent other JSON, or none"),
    ("a list", at("info", body(b"[]")), "must list the files, it sent other JSON, or none"),
    ("null", at("info", body(b"null")), "must list the files, it sent other JSON, or none"),
    ("a nest", at("info", body(NEST)), "must list the files, it sent other JSON, or none"),
    ("nothing", at("info", body(b"")), "must list the files, it sent other JSON, or none"),
    ("no commit", listing(lambda data: data.pop("sha")), "must list the files, it sent other JSON, or none"),
    ("a commit that is a path", listing(lambda data: data.update(sha="../../x")), "it names no commit"),
    (
        "no files",
        listing(lambda data: data.update(siblings={"a": 1})),
        "must list the files, it sent other JSON",
    ),
    (
        "a path upwards",
        file(1, rfilename="../../x.gguf"),
        "it names one that does not stay in the repository",
    ),
    (
        "a path from the root",
        file(1, rfilename="/etc/x.gguf"),
        "it names one that does not stay in the repository",
    ),
    ("a backslash", file(1, rfilename="..\\x.gguf"), "it names one that does not stay in the repository"),
    (
        "a control character",
        file(1, rfilename="a\x1b[2J.gguf"),
        "it names one that does not stay in the repository",
    ),
    ("a NUL", file(1, rfilename="a\0.gguf"), "it names one that does not stay in the repository"),
    ("a name that is none", file(1, rfilename=7), "must list the files, it sent other JSON, or none"),
    ("one name twice", file(0, rfilename="m-Q8_0.gguf"), "it names one twice"),
    (
        "a digest that is a path",
        file(1, lfs={"sha256": "../../x", "size": 1}),
        "has no size or no digest there",
    ),
    ("a size below 0", file(0, size=-1), "README.md has no size or no digest there"),
    ("a size beyond all", file(0, size=1 << 60), "README.md has no size or no digest there"),
    ("a size in words", file(0, size="many"), "README.md has no size or no digest there"),
    ("a listing without end", at("info", endless), "must list the files, it does not come to an end"),
    ("a file without end", at("large", endless), f"must have {len(LARGE)} bytes, "),
    ("a longer file", at("large", body(LARGE + b"x")), f"{len(LARGE)} bytes, 127.0.0.1:"),
    ("a shorter file", at("large", body(LARGE[:-1])), f"sends {len(LARGE) - 1}; nothing was kept"),
    ("other contents", at("large", body(LARGE[::-1])), "must have digest "),
    (
        "a pointer in place of the file",
        at("file", body(b"version https://git-lfs")),
        "sends 23; nothing was kept",
    ),
    (
        "garbage in place of gzip",
        at("large", body(LARGE, Content_Encoding="gzip")),
        "compresses in a way of its own",
    ),
]


@pytest.mark.parametrize(("what", "fault", "words"), HUB, ids=[row[0] for row in HUB])
def test_one_line(
    what: str, fault: Fault, words: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "LISTING_LIMIT_BYTES", 1 << 20)
    hub.fault = fault
    with pytest.raises(NetworkError) as caught:
        resolve_model("org/name")
    message = str(caught.value)
    assert words in message
    assert message.startswith("hf://org/name: ")
    assert message.isprintable()
    assert "s3cr3t" not in message
    assert caught.value.exit_code == 7
    # What is there is the beginning of a file, under a name that nothing reads.
    assert all(name.endswith(".ck.incomplete") for name in cache_files())
    # And with the fault gone all is well.
    hub.fault = None
    assert resolve_model("org/name").read_bytes() == LARGE


def test_a_small_file_with_other_contents(hub: HubServer) -> None:
    hub.fault = at("file", body(b'{"small": null}'))
    fails("must have digest ", argument="hf://org/name/tiny.gguf")


def test_a_listing_from_another_host(hub: HubServer) -> None:
    hub.fault = at("info", redirect(f"{hub.store}/org/name/README.md"))
    fails("must list the files, it leaves that to another host")


def test_no_such_file(hub: HubServer) -> None:
    fails("hf://org/name/x.gguf: has no file x.gguf; it has m-Q4_K_M.gguf", argument="hf://org/name/x.gguf")


def test_no_such_type(hub: HubServer) -> None:
    words = "has no Q2_K; name one as ORG/NAME:TYPE or hf://org/name/FILE, there are m-Q4_K_M.gguf, m-Q8_0"
    fails(words, argument="org/name:Q2_K")


def test_a_part_is_missing(hub: HubServer) -> None:
    del hub.repositories["org/parts"].files["p-00002-of-00003.gguf"]
    fails("has no file p-00002-of-00003.gguf", argument="org/parts")


def test_a_wrong_token(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fault = at("info", status(401))
    fails("does not take the token; set HF_TOKEN anew, or unset it")


def test_a_token_that_may_not_see_it(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.repositories["org/name"].token = "another"
    fails("has no such repository, or the token may not see it")


def test_gated_in_spite_of_a_token(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.fault = at("info", status(403, "GatedRepo"))
    fails("/org/name, then ask again")


def test_a_token_that_is_none(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t\u00fc")
    fails("HF_TOKEN: must be a token of the hub", UsageError)


def test_a_listing_that_takes_too_long(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "LISTING_LIMIT_S", 0.0)
    fails("must list the files, it does not come to an end")
