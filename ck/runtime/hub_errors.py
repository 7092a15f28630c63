"""The words for what goes wrong between here and the hub, one line a failure.

Nothing that a server sent is repeated, nor any address beyond its host: an answer may hold control
characters, an address a signature, an exception's text a token.
"""

import socket
import ssl
from collections.abc import Iterator, Mapping

import httpx2
from huggingface_hub.errors import OfflineModeIsEnabled

from ck.errors import CkError, NetworkError, UsageError


class HubUnreachable(NetworkError):
    """The hub gave no answer that says anything of the model: what the cache has may stand in."""


class Dropped(Exception):
    """An attempt that got no whole answer, and why, said of the host; another may."""


def refused(
    where: str, host: str, repo: str, status: int, headers: Mapping[str, str], token: bool
) -> CkError:
    """The error of an answer with a status of 400 or more. `token`: one was sent with the request."""
    code = headers.get("x-error-code", "")
    if code == "GatedRepo":
        then = "then ask again" if token else "then set HF_TOKEN to a token of that account"
        return NetworkError(f"{where}: is gated; accept its terms at {host}/{repo}, {then}")
    if code == "RevisionNotFound":
        return NetworkError(f"{where}: {host} has the repository, but no such revision; see {host}/{repo}")
    if code == "EntryNotFound":
        return NetworkError(f"{where}: {host} no longer has the file; see {host}/{repo}")
    if code == "RepoNotFound" or status in (404, 410) or (status == 401 and not token):
        private = "or the token may not see it" if token else "or it is private and HF_TOKEN is not set"
        return NetworkError(f"{where}: {host} has no such repository, {private}")
    if status == 401:
        return NetworkError(f"{where}: {host} does not take the token; set HF_TOKEN anew, or unset it")
    if status == 403:
        return NetworkError(f"{where}: {host} denies access (403); look at {host}/{repo} in a browser")
    if status == 429:
        return HubUnreachable(f"{where}: {host} has had too many requests (429); try again {_when(headers)}")
    return NetworkError(f"{where}: {host} must answer 200, it answered {status}; check HF_ENDPOINT")


def _when(headers: Mapping[str, str]) -> str:
    seconds = headers.get("retry-after", "").strip()
    return f"in {int(seconds)} s" if seconds.isascii() and seconds.isdigit() and len(seconds) < 7 else "later"


def unanswered(where: str, host: str, error: Exception) -> CkError | Dropped:
    """What to make of a request that got no whole answer."""
    roots = list(_chain(error))
    for root in roots:
        if isinstance(root, ssl.SSLCertVerificationError):
            why = root.verify_message
            return NetworkError(
                f"{where}: the certificate of {host} must verify, found {why}; see SSL_CERT_FILE"
            )
        if isinstance(root, socket.gaierror):
            return HubUnreachable(f"{where}: {host} has no address; check the network and HF_ENDPOINT")
    match error:
        case httpx2.ConnectError() if any(isinstance(root, ssl.SSLError) for root in roots):
            return NetworkError(f"{where}: {host} does not speak TLS; check HF_ENDPOINT and the proxy")
        case httpx2.ProxyError():
            return NetworkError(f"{where}: the proxy refuses {host}; check HTTPS_PROXY and NO_PROXY")
        case OfflineModeIsEnabled():
            return HubUnreachable(f"{where}: huggingface_hub was loaded offline; start again without that")
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return HubUnreachable(f"{where}: {host} takes no connection; check the network and HF_ENDPOINT")
        case httpx2.TooManyRedirects():
            return NetworkError(f"{where}: {host} redirects in circles; check HF_ENDPOINT and the proxy")
        case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
            return NetworkError(f"{where}: {host} redirects to no web address; check HF_ENDPOINT")
        case httpx2.DecodingError():
            return NetworkError(f"{where}: {host} compresses in a way of its own; check the proxy")
        case httpx2.LocalProtocolError() | UnicodeError():
            return UsageError("HF_TOKEN: must be a token of the hub, it has characters that none has")
        case httpx2.TimeoutException():
            return Dropped("sent nothing for too long")
        case _:
            return Dropped("broke the connection off")


def web_page(where: str, host: str, what: str) -> NetworkError:
    """A page for a browser, where something else was asked for."""
    return NetworkError(
        f"{where}: {host} must send {what}, it sent a web page; a proxy, or a network that wants a login, is "
        "in the way"
    )


def given_up(where: str, host: str, why: Dropped, times: int) -> HubUnreachable:
    """Every attempt failed, the last for this reason."""
    return HubUnreachable(f"{where}: {host} {why}, {times} times in a row; try again later")


def no_listing(where: str, host: str, why: str) -> NetworkError:
    """An answer that is no listing."""
    return NetworkError(f"{where}: {host} must list the files, {why}; check HF_ENDPOINT and the proxy")


def wrong_size(where: str, host: str, listed: int, found: str) -> NetworkError:
    """A file that is not as long as the hub says elsewhere."""
    return NetworkError(f"{where}: must have {listed} bytes, {host} sends {found}; nothing was kept")


def wrong_contents(where: str, host: str, digest: str) -> NetworkError:
    """A file of the right length that is another."""
    return NetworkError(
        f"{where}: must have digest {digest[:16]}.., what {host} sent has another; nothing was kept"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    seen = set[int]()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
