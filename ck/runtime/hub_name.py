"""`parse_hub_name`: what a string means on the hub. Nothing is looked up: no network, no files.

    hf://[models/]ORG/NAME[@REVISION][/FILE.gguf]
    ORG/NAME[:QUANT]
    [https://]huggingface.co/ORG/NAME[/(blob|resolve|raw|blame|tree)/REVISION[/FILE.gguf]]

A revision is a branch, a tag or a commit; one with a slash is written %2F, but for refs/pr/N and
refs/convert/NAME. An @ behind ORG/NAME/ belongs to the file. An address's query and fragment mean nothing.
Sources: huggingface_hub's documentation of its URIs and of repository names; llama.cpp's option -hf.
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from ck.errors import CkError, UnsupportedError, UsageError

SCHEME = "hf://"
DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"
_HOSTS = frozenset({"huggingface.co", "hf.co"})
_OTHER_TYPES = frozenset({"datasets", "spaces", "kernels", "buckets"})
_SINGULAR = {"model": "models", "dataset": "datasets", "space": "spaces"}
_TYPES = _OTHER_TYPES | {"models"}
_ROUTES = frozenset({"blob", "resolve", "raw", "blame", "tree"})
_PART = r"\w(?:[\w.-]*\w)?"
_REPO = re.compile(rf"{_PART}/{_PART}", re.ASCII)
_SHORT = re.compile(rf"(?P<repo>{_PART}/{_PART})(?::(?P<quant>[^/:]*))?", re.ASCII)
_QUANT = re.compile(r"\w[\w.-]*", re.ASCII)
_SPECIAL_REVISION = re.compile(r"refs/(?:pr/\d+|convert/[\w.-]+)(?=/|$)", re.ASCII)
# What git allows in the name of a branch, and no more than ASCII.
_REVISION = re.compile(r"(?![-./])(?!.*(?:\.\.|//|/\.|@\{))[!-~]+(?<![./])", re.ASCII)
_NOT_IN_REVISION = frozenset('~^:?*[\\"<>|')
# What is written like this and is not there is a file that is missing, not a repository.
_FILES = (".gguf", ".safetensors", ".json", ".bin")
_NAME_LIMIT, _REVISION_LIMIT, _FILE_LIMIT = 96, 255, 1024


@dataclass(frozen=True)
class HubName:
    """A repository of a model. revision None: main. file and quant: at most one of them is given."""

    repo: str
    revision: str | None = None
    file: str | None = None
    quant: str | None = None

    def __str__(self) -> str:
        """The shortest string that means the same."""
        if self.quant is not None:
            return f"{self.repo}:{self.quant}"
        revision = self.revision
        if revision is not None and not _SPECIAL_REVISION.fullmatch(revision):
            revision = revision.replace("%", "%25").replace("/", "%2F")
        at = "" if revision is None else f"@{revision}"
        file = "" if self.file is None else f"/{self.file}"
        kind = "models/" if self.repo.partition("/")[0] in _TYPES else ""
        return f"{SCHEME}{kind}{self.repo}{at}{file}"

    @property
    def ref(self) -> str:
        """The revision, main where none is named."""
        return self.revision or DEFAULT_REVISION


def parse_hub_name(argument: str, endpoint: str = DEFAULT_ENDPOINT) -> HubName | None:
    """What `argument` means on the hub at `endpoint`; None when it is not written as any such name.

    Raises UsageError for a name that breaks the grammar, UnsupportedError for what holds no model.
    """
    if argument.startswith(SCHEME):
        return _of_body(argument, argument.removeprefix(SCHEME), decode=False)
    if "://" in argument or _begins_with_host(argument, endpoint):
        return _of_address(argument, endpoint)
    short = _SHORT.fullmatch(argument)
    if short is None or argument.endswith(_FILES):
        return None
    quant = short["quant"]
    if quant is not None and not _QUANT.fullmatch(quant):
        raise _refused(argument, "a type must follow the colon, as in ORG/NAME:Q4_K_M")
    return HubName(_repo(argument, short["repo"]), quant=quant)


def shown_name(argument: str) -> str:
    """`argument` as a message may show it: on one line, without what an address may hold of a password."""
    plain = argument.encode("unicode_escape").decode("ascii") if not argument.isprintable() else argument
    if "://" in plain:
        scheme, _, rest = plain.partition("://")
        host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
        plain = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return plain if len(plain) <= 200 else f"{plain[:200]}.."


def safe_file_name(name: str) -> bool:
    """Whether `name` is a path that stays inside a repository: plain parts, no control characters."""
    parts = name.split("/")
    plain = name.isprintable() and "\\" not in name and len(name.encode()) <= _FILE_LIMIT
    return plain and all(part not in ("", ".", "..") and len(part.encode()) < 256 for part in parts)


def _begins_with_host(argument: str, endpoint: str) -> bool:
    host = re.split(r"[/?#]", argument, maxsplit=1)[0].lower()
    return "/" in argument and host in _HOSTS | {_split(endpoint).netloc.lower()}


def _of_address(argument: str, endpoint: str) -> HubName:
    """The meaning of a web address."""
    where, own = _split(argument if "://" in argument else f"https://{argument}"), _split(endpoint)
    if where.scheme not in ("http", "https"):
        raise UnsupportedError(f"{shown_name(argument)}: {_ELSEWHERE}")
    if "@" in where.netloc:
        raise _refused(argument, "an address must not have a user or a password; a token goes to HF_TOKEN")
    path = where.path
    if where.netloc.lower() == own.netloc.lower() and own.path.strip("/"):
        path = path.removeprefix(own.path.rstrip("/"))
    elif where.netloc.lower() not in _HOSTS | {own.netloc.lower()}:
        raise UnsupportedError(f"{shown_name(argument)}: {_ELSEWHERE}")
    parts = [part for part in path.split("/") if part]
    at = 1 if parts and parts[0] in _TYPES else 0
    repo, rest = parts[: at + 2], parts[at + 2 :]
    if not rest:
        return _of_body(argument, "/".join(repo), decode=True)
    if rest[0] not in _ROUTES or len(rest) == 1:
        raise _refused(argument, "an address must be that of a repository or of a file in it")
    return _of_body(argument, f"{'/'.join(repo)}@{'/'.join(rest[1:])}", decode=True)


_ELSEWHERE = "models are fetched from the hub alone; download the file and give its path"


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        raise _refused(address, "a web address is required, this is none") from None


def _of_body(argument: str, body: str, decode: bool) -> HubName:
    """The meaning of [TYPE/]ORG/NAME[@REVISION][/FILE]; `decode`: names of files are percent-encoded."""
    first, slash, rest = body.partition("/")
    if first in _SINGULAR and slash:
        raise _refused(argument, f"a type is written in the plural, {_SINGULAR[first]}/")
    if first in _OTHER_TYPES:
        raise UnsupportedError(f"{shown_name(argument)}: a model is required, {first} hold none")
    body = (rest if first == "models" and slash else body).removesuffix("/")
    org, slash, rest = body.partition("/")
    name = re.match(r"[^/@]*", rest)
    assert name is not None
    repo, tail = _repo(argument, f"{org}{slash}{name[0]}"), rest[name.end() :]
    revision = None
    if tail.startswith("@"):
        revision, tail = _revision(argument, tail[1:])
    file = unquote(tail[1:]) if decode else tail[1:]
    if not tail:
        return HubName(repo, revision)
    if not safe_file_name(file):
        raise _refused(argument, "a file's path must be plain names with / between them")
    if not file.endswith(".gguf"):
        raise _refused(argument, "a file must end in .gguf; of a model folder, name the repository alone")
    return HubName(repo, revision, file)


def _repo(argument: str, repo: str) -> str:
    plain = _REPO.fullmatch(repo) and "--" not in repo and ".." not in repo and not repo.endswith(".git")
    if not plain or len(repo) > _NAME_LIMIT:
        raise _refused(argument, "a repository must be named ORG/NAME, of letters, digits, - _ and .")
    return repo


def _revision(argument: str, text: str) -> tuple[str, str]:
    """The revision that `text` begins with, and what is behind it."""
    special = _SPECIAL_REVISION.match(text)
    end = special.end() if special else (text.find("/") if "/" in text else len(text))
    revision = text[:end] if special else unquote(text[:end])
    if not revision:
        raise _refused(argument, "a branch, a tag or a commit must follow the @")
    unfit = not _REVISION.fullmatch(revision) or not _NOT_IN_REVISION.isdisjoint(revision)
    if unfit or len(revision) > _REVISION_LIMIT or revision.endswith(".lock"):
        raise _refused(argument, "the revision must be the name of a branch, a tag or a commit")
    return revision, text[end:]


def _refused(argument: str, why: str) -> CkError:
    return UsageError(f"{shown_name(argument)}: {why}")
