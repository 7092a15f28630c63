"""The hub's protocol, as much of it as fetching takes: what a revision holds, and the bytes of a file.

huggingface_hub gives the session, with the proxies and certificates that are configured in it, the token and
the user agent. An answer is never trusted for its length: a listing ends at a limit, a file at the size that
the listing has of it, and both when next to nothing comes for too long. The token goes to the endpoint's own
host alone; the session leaves it out behind a redirect to another.
"""

import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from ck import __version__
from ck.errors import MachineError, NetworkError, UsageError
from ck.runtime.hub_cache import is_commit, is_digest
from ck.runtime.hub_files import HubFile
from ck.runtime.hub_name import DEFAULT_ENDPOINT, HubName, safe_file_name

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

LISTING_LIMIT_BYTES, LISTING_LIMIT_S = 32 << 20, 120.0
_FILES_LIMIT = 50_000
_SIZE_LIMIT_BYTES = 1 << 45
DEFAULT_TIMEOUT_S = 10.0
# More than this a socket may not take.
_TIMEOUT_LIMIT_S = 86_400
# Attempts at one answer that bring nothing new, and the pauses between them.
WAITS_S = (0.5, 1.0, 2.0, 4.0)
# A connection must bring so many bytes in so many seconds, or it counts as broken.
STALL_S, STALL_BYTES = 30.0, 4096
# Progress that makes up for an attempt.
_WORTH_BYTES = 1 << 20
# What answers for the hub beside the endpoint.
_HUB_ORIGINS = (("https", "huggingface.co"), ("https", "hf.co"))
_NO_ENDPOINT = "HF_ENDPOINT: must be a web address, such as https://huggingface.co, it is none"


@dataclass(frozen=True)
class Listing:
    """What a revision is: a commit and its files."""

    commit: str
    files: tuple[HubFile, ...]


def endpoint() -> str:
    """HF_ENDPOINT, or the public hub. Raises UsageError for what cannot even be taken apart."""
    address = (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    try:
        # Asked for, a port is looked at.
        _ = urlsplit(address).port
    except ValueError:
        raise UsageError(_NO_ENDPOINT) from None
    return address


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids every connection."""
    return _is_set("HF_HUB_OFFLINE") or _is_set("TRANSFORMERS_OFFLINE")


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")


class HubClient:
    """A connection to the hub about one repository.

    Raises MachineError without huggingface_hub, and when it cannot work with what the environment says.
    """

    def __init__(self, name: HubName) -> None:
        self.name, self._base = name, endpoint()
        self._host = _host(self._base)
        try:
            import httpx2
            from huggingface_hub import get_session, get_token

            from ck.runtime import hub_errors
        except ImportError as error:
            raise MachineError(
                f"{name}: fetching needs huggingface_hub 2, it is missing; run: pip install 'ck-engine[hub]'"
            ) from error
        except ValueError as error:
            raise MachineError(f"{name}: HF_HUB_*_TIMEOUT must be whole seconds, found other text") from error
        self._errors = hub_errors
        try:
            self._session = get_session()
        except (ValueError, OSError, ImportError, httpx2.InvalidURL) as error:
            # Its text may hold the password of a proxy.
            raise MachineError(
                f"{name}: HTTPS_PROXY and SSL_CERT_FILE must serve to make a connection, they do not"
            ) from error
        token = None if _is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") else get_token()
        self._headers = {"user-agent": f"ck/{__version__}"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._has_token = token is not None

    def listing(self) -> Listing:
        """The commit that the revision is now, and its files. Raises NetworkError, UsageError."""
        path = f"api/models/{self.name.repo}/revision/{quote(self.name.ref, safe='')}"
        where = str(self.name)
        text = self._attempts(where, lambda: self._get_listing(f"{self._base}/{path}?blobs=true", where))
        try:
            return _listing(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = str(error) if isinstance(error, _Unfit) else "it sent other JSON, or none"
            raise self._errors.no_listing(where, self._host, why) from error

    def fetch(self, commit: str, file: HubFile, out: IO[bytes], progress: Callable[[int], None]) -> None:
        """Append to `out`, which appends, what it lacks of a file; `progress` gets its size as it grows.

        What came is left in `out` when the connection breaks for good: a later call goes on from there.
        Raises NetworkError, also for a file of another size; contents are the caller's to check.
        """
        url = f"{self._base}/{self.name.repo}/resolve/{commit}/{quote(file.name)}"
        where = self.where(file)
        self._attempts(
            where, lambda: self._get_file(url, where, file, out, progress), lambda: out.seek(0, os.SEEK_END)
        )

    def wrong_contents(self, file: HubFile) -> NetworkError:
        """The error of a file that has another digest than was listed."""
        return self._errors.wrong_contents(self.where(file), self._host, file.digest)

    def is_silence(self, error: NetworkError) -> bool:
        """Whether an error says nothing of the repository, only that the hub gave no answer."""
        return isinstance(error, self._errors.HubUnreachable)

    def where(self, file: HubFile) -> str:
        """What a message calls a file."""
        return str(self.name) if self.name.file == file.name else f"{self.name}: {file.name}"

    def _attempts(self, where: str, attempt: Callable[[], T], n_done: Callable[[], int] = lambda: 0) -> T:
        """What `attempt` returns; it is made again when it is cut off, as long as that brings something."""
        n_failed, before = 0, n_done()
        while True:
            try:
                return attempt()
            except self._errors.Dropped as why:
                grown = n_done() - before >= _WORTH_BYTES
                n_failed, before = (0 if grown else n_failed) + 1, n_done()
                if n_failed > len(WAITS_S):
                    raise self._errors.given_up(where, self._host, why, n_failed) from why
            time.sleep(WAITS_S[n_failed - 1])

    @contextmanager
    def _answer(
        self, url: str, where: str, wanted: str, extra: dict[str, str]
    ) -> "Generator[httpx2.Response]":
        """The answer to a request for `wanted`, its body unread; 416 is an answer."""
        import httpx2

        # Compressed, an answer has no length to hold it to.
        headers = {**self._headers, "accept-encoding": "identity", **extra}
        options: dict[str, Any] = {"timeout": timeout_s(), "follow_redirects": True}
        try:
            with self._session.stream("GET", url, headers=headers, **options) as response:
                self._check(response, where, wanted)
                yield response
        except (
            httpx2.HTTPError,
            httpx2.InvalidURL,
            UnicodeError,
            self._errors.OfflineModeIsEnabled,
        ) as error:
            raise self._errors.unanswered(where, self._host, error) from error

    def _check(self, response: "httpx2.Response", where: str, wanted: str) -> None:
        status = response.status_code
        if status >= 500 or status == 408:
            raise self._errors.Dropped(f"answered {status}")
        if status not in (200, 206, 416):
            raise self._errors.refused(
                where, self._host, self.name.repo, status, response.headers, self._has_token
            )
        if response.headers.get("content-type", "").lower().startswith("text/html"):
            raise self._errors.web_page(where, self._host, wanted)

    def _get_listing(self, url: str, where: str) -> bytes:
        text = bytearray()
        with self._answer(url, where, "the list of files", {}) as response:
            # Digests come with the listing: only the hub itself may give it.
            if _origin(str(response.url)) not in {_origin(self._base), *_HUB_ORIGINS}:
                raise self._errors.no_listing(where, self._host, "it leaves that to another host")
            end = time.monotonic() + LISTING_LIMIT_S
            for chunk in self._chunks(response):
                text += chunk
                if len(text) > LISTING_LIMIT_BYTES or time.monotonic() > end:
                    raise self._errors.no_listing(where, self._host, "it does not come to an end")
        return bytes(text)

    def _get_file(
        self, url: str, where: str, file: HubFile, out: IO[bytes], progress: Callable[[int], None]
    ) -> None:
        size = out.seek(0, os.SEEK_END)
        if size > file.n_bytes:
            size = out.truncate(0)
        if size == file.n_bytes:
            return
        with self._answer(url, where, "the file", {"range": f"bytes={size}-"} if size else {}) as response:
            if response.status_code == 416 or (size and not _continues(response, size, file.n_bytes)):
                size = out.truncate(0)
                if response.status_code != 200:
                    raise self._errors.Dropped("does not send the rest of a file")
            announced = _length(response)
            if announced is not None and size + announced != file.n_bytes:
                out.truncate(0)
                raise self._errors.wrong_size(where, self._host, file.n_bytes, str(size + announced))
            for chunk in self._chunks(response):
                size += len(chunk)
                if size > file.n_bytes:
                    out.truncate(0)
                    raise self._errors.wrong_size(where, self._host, file.n_bytes, "more")
                out.write(chunk)
                progress(size)
        if size < file.n_bytes:
            raise self._errors.Dropped("broke the connection off")

    def _chunks(self, response: "httpx2.Response") -> Iterator[bytes]:
        """The body as it comes; a trickle counts as broken."""
        since, n_bytes = time.monotonic(), 0
        for chunk in response.iter_bytes():
            n_bytes += len(chunk)
            if time.monotonic() - since >= STALL_S:
                if n_bytes < STALL_BYTES:
                    raise self._errors.Dropped(f"sent fewer than {STALL_BYTES} bytes in {STALL_S:g} s")
                since, n_bytes = time.monotonic(), 0
            yield chunk


def timeout_s() -> float:
    """HF_HUB_DOWNLOAD_TIMEOUT: how long nothing may come."""
    text = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or ""
    return float(min(int(text), _TIMEOUT_LIMIT_S)) if text.isdecimal() and int(text) else DEFAULT_TIMEOUT_S


class _Unfit(ValueError):
    """Why a listing is none."""


def _listing(data: Any) -> Listing:
    commit, siblings = data["sha"], data["siblings"]
    if not is_commit(commit) or len(siblings) > _FILES_LIMIT:
        raise _Unfit("it names no commit" if not is_commit(commit) else f"more than {_FILES_LIMIT} are there")
    files = tuple(_file(entry) for entry in siblings)
    if len({file.name for file in files}) < len(files):
        raise _Unfit("it names one twice")
    return Listing(commit, files)


def _file(entry: dict[str, Any]) -> HubFile:
    name: Any = entry["rfilename"]
    large: dict[str, Any] = entry.get("lfs") or {}
    size: Any = large.get("size", entry["size"])
    digest: Any = large.get("sha256", entry["blobId"])
    # A name becomes a path, and a digest a file's name.
    if not safe_file_name(name):
        raise _Unfit("it names one that does not stay in the repository")
    if not is_digest(digest) or not isinstance(size, int) or not 0 <= size < _SIZE_LIMIT_BYTES:
        raise _Unfit(f"{name} has no size or no digest there")
    return HubFile(name, size, digest)


def _continues(response: "httpx2.Response", size: int, n_bytes: int) -> bool:
    """Whether an answer to a request for the rest of a file is that."""
    wanted = f"bytes {size}-{n_bytes - 1}/{n_bytes}"
    return response.status_code == 206 and response.headers.get("content-range", "").strip() == wanted


def _length(response: "httpx2.Response") -> int | None:
    """Bytes that an answer announces of itself."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isdecimal() and "content-encoding" not in response.headers else None


def _host(address: str) -> str:
    """What a message may show of an address. Raises UsageError when it is none."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(_NO_ENDPOINT)
    return parts.netloc.rpartition("@")[2]


def _origin(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme, parts.netloc.rpartition("@")[2].lower()
