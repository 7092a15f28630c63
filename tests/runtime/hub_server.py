"""A hub on this machine: repositories, revisions, files, and every way in which it may fail.

Two servers, as the hub has them: one with names, tokens and small files, and another, on another port, that
large files are redirected to. `fault` is called before each answer and may give another, or cut it off.
"""

import gzip
import hashlib
import json
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

# As large as this, a file is kept apart, by its SHA-256.
LARGE_BYTES = 1000
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_digest(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if len(data) >= LARGE_BYTES else git_digest(data)


@dataclass
class Repository:
    """Its files at its only commit; `token`, if any, is what it asks for."""

    files: dict[str, bytes]
    commit: str = COMMIT
    token: str | None = None

    def entry(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_digest(data)}
        if len(data) >= LARGE_BYTES:
            entry["lfs"] = {"sha256": digest(data), "size": len(data), "pointerSize": 134}
        return entry

    def listing(self) -> dict[str, Any]:
        return {"id": "it", "sha": self.commit, "siblings": [self.entry(name) for name in self.files]}


@dataclass(frozen=True)
class Asked:
    """A request. kind: info, file, or large for what the second server has."""

    kind: str
    method: str
    path: str
    headers: Mapping[str, str]


# Gets the handler and the request; whether it answered.
Fault = Callable[["Handler", Asked], bool]


@dataclass
class HubServer:
    """Runs inside a with statement."""

    repositories: dict[str, Repository] = field(default_factory=dict[str, Repository])
    fault: Fault | None = None
    certificate: Path | None = None
    asked: list[Asked] = field(default_factory=list[Asked])

    def __enter__(self) -> Self:
        self._servers = [_server(self, is_store) for is_store in (False, True)]
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._servers[0].socket = context.wrap_socket(self._servers[0].socket, server_side=True)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *ending: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def address(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self._servers[0].server_port}"

    @property
    def store(self) -> str:
        return f"http://127.0.0.1:{self._servers[1].server_port}"

    def kinds(self) -> list[str]:
        return [asked.kind for asked in self.asked]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    hub: HubServer
    is_store: bool

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_CONNECT(self) -> None:
        self.send(403, b"", {})

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def send(self, status: int, body: bytes, headers: Mapping[str, str], length: int | None = None) -> None:
        """An answer; with another `length` than it has, the connection ends behind it."""
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(body) if length is None else length),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = length is not None

    def refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> bool:
        """An error as the hub words it."""
        self.send(status, b'{"error":"\x1b[31mno"}', {"X-Error-Code": code, **(headers or {})})
        return True

    def cut(self) -> bool:
        """End the connection here."""
        self.close_connection = True
        return True

    def _answer(self) -> None:
        try:
            path = unquote(urlsplit(self.path).path)
            kind = "large" if self.is_store else "info" if path.startswith("/api/") else "file"
            asked = Asked(kind, self.command, path, {k.lower(): v for k, v in self.headers.items()})
            self.hub.asked.append(asked)
            if self.hub.fault is None or not self.hub.fault(self, asked):
                {"large": self._large, "info": self._info, "file": self._file}[kind](path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _repository(self, name: str) -> Repository | None:
        found = self.hub.repositories.get(name)
        if found is None or (found.token and self.headers.get("Authorization") != f"Bearer {found.token}"):
            self.refuse(404 if found is None else 401, "RepoNotFound")
            return None
        return found

    def _info(self, path: str) -> None:
        parts = path.removeprefix("/api/models/").split("/", 3)
        found = self._repository("/".join(parts[:2]))
        if found is None:
            return
        revision = parts[3] if len(parts) > 3 else "main"
        if revision not in ("main", "v1/x", found.commit):
            self.refuse(404, "RevisionNotFound")
            return
        data: Any = found.listing()
        if parts[2:3] == ["tree"]:
            rows = [found.entry(name) for name in found.files]
            data = [
                {"type": "file", "path": row["rfilename"], "oid": row["blobId"], "size": row["size"]}
                | ({"lfs": {**row["lfs"], "oid": row["lfs"]["sha256"]}} if "lfs" in row else {})
                for row in rows
            ]
        self.send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _file(self, path: str) -> None:
        repo, _, rest = path[1:].partition("/resolve/")
        found = self._repository(repo)
        if found is None:
            return
        name = rest.partition("/")[2]
        commit = {"X-Repo-Commit": found.commit}
        if name not in found.files:
            self.refuse(404, "EntryNotFound", commit)
            return
        data = found.files[name]
        if len(data) < LARGE_BYTES:
            self.ranged(data, {"ETag": f'"{git_digest(data)}"', **commit})
            return
        to = f"{self.hub.store}/{repo}/{name}?Signature=s3cr3t"
        linked = {"X-Linked-Etag": f'"{digest(data)}"', "X-Linked-Size": str(len(data))}
        self.send(302, b"", {"Location": to, **linked, **commit})

    def _large(self, path: str) -> None:
        org, name, file = path[1:].split("/", 2)
        data = self.hub.repositories[f"{org}/{name}"].files[file]
        self.ranged(data, {"ETag": f'"{digest(data)}"'})

    def ranged(self, data: bytes, headers: Mapping[str, str]) -> None:
        """A whole file or, if that is asked for, what is behind a place in it."""
        wanted = self.headers.get("Range")
        if wanted is None:
            self.send(200, data, headers)
            return
        begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        place = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self.send(206, data[begin:], {"Content-Range": place, **headers})

    def chunk(self, data: bytes) -> None:
        """A piece of an answer whose length was not said."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def begin_chunks(self) -> None:
        """Begin such an answer."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True

    def send_compressed(self, data: bytes) -> bool:
        """An answer that is compressed, though nobody asked for that."""
        self.send(200, gzip.compress(data), {"Content-Encoding": "gzip"})
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that the other side ended."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _server(hub: HubServer, is_store: bool) -> ThreadingHTTPServer:
    kind = type("Handler", (Handler,), {"hub": hub, "is_store": is_store})
    return _Server(("127.0.0.1", 0), kind)
