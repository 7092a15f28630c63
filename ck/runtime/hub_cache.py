"""The Hugging Face cache on disk, which other tools read and write as well: where a repository's files lie.

    $HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub
    models--ORG--NAME/refs/<revision>          the commit that a revision meant when it was last looked up
    models--ORG--NAME/blobs/<digest>           contents, by their HubFile.digest
    models--ORG--NAME/snapshots/<commit>/..    the files of a commit, by name: links to blobs
    .locks/models--ORG--NAME/<digest>.lock     locked (flock) by who fetches the blob

Nothing here goes to the network or needs huggingface_hub.
Source: huggingface_hub's guide to its cache.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ck.errors import MachineError, ResourceError
from ck.frontend.gguf import part_names
from ck.runtime.hub_files import HubFile
from ck.runtime.hub_name import parse_hub_name
from ck.runtime.paths import sync_directory

_SNAPSHOT = re.compile(r".*/models--(.+?)--(.+?)/snapshots/([0-9a-f]{40})(?:/(.+))?", re.DOTALL)
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_BYTES = 1 << 20
_PART_ENDING = ".ck.incomplete"
# What a process that was killed may leave of a file that it was about to rename.
_SCRATCH = ".ck-"


class Hasher(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def hub_cache_dir() -> Path:
    """The directory of the cache; it need not exist."""
    home = os.environ.get("HF_HOME")
    xdg = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    default = f"{home}/hub" if home else f"{xdg}/huggingface/hub"
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or default
    path = os.path.expanduser(os.path.expandvars(own))
    if path.startswith("~"):
        raise MachineError("hub: needs a home directory, there is none; set HF_HOME to a directory")
    return Path(path).absolute()


def is_commit(revision: str) -> bool:
    """Whether a revision is a whole commit: one that never moves."""
    return _COMMIT.fullmatch(revision) is not None


def is_digest(text: str) -> bool:
    """Whether `text` may be the digest of a file."""
    return _DIGEST.fullmatch(text) is not None


def has_digest(path: Path, digest: str) -> bool:
    """Whether the contents of the file at `path` have this digest."""
    hasher = new_hasher(digest, path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            hasher.update(block)
    return hasher.hexdigest() == digest


def new_hasher(digest: str, n_bytes: int) -> Hasher:
    """What makes a digest like `digest` of `n_bytes` bytes of contents."""
    if len(digest) == 64:
        return hashlib.sha256()
    # git's name of a file's contents, for finding changes; what is large has a SHA-256.
    return hashlib.sha1(f"blob {n_bytes}\0".encode(), usedforsecurity=False)


@dataclass(frozen=True)
class CachedRepository:
    """The part of the cache that belongs to the model repository `repo`."""

    repo: str

    @property
    def path(self) -> Path:
        """Its directory; it need not exist."""
        return hub_cache_dir() / self._folder

    @property
    def _folder(self) -> str:
        return f"models--{self.repo.replace('/', '--')}"

    def blob(self, digest: str) -> Path:
        """Where contents of this digest lie."""
        assert is_digest(digest)
        return self.path / "blobs" / digest

    def part(self, digest: str) -> Path:
        """Where they lie until all of them are there."""
        return self.blob(digest).with_name(f"{digest}{_PART_ENDING}")

    def parts(self) -> list[Path]:
        """What has been begun, and no process is at work on."""
        found = sorted((self.path / "blobs").glob(f"*{_PART_ENDING}"))
        return [path for path in found if not self._is_locked(path.name.removesuffix(_PART_ENDING))]

    def snapshot(self, commit: str) -> Path:
        """The directory of a commit."""
        assert is_commit(commit)
        return self.path / "snapshots" / commit

    def commit_of(self, revision: str) -> str | None:
        """The commit that `revision` is, or was when it was last looked up; None when it never was."""
        if is_commit(revision):
            return revision
        try:
            text = (self.path / "refs" / revision).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text if is_commit(text) else None

    def set_commit(self, revision: str, commit: str) -> None:
        """Let `revision` mean `commit` for all who read the cache."""
        if self.commit_of(revision) != commit:
            path = self.path / "refs" / revision
            # A branch x may have been there once, and x/y now: then the cache does not have this one's name.
            with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_text(path, commit)

    def commits(self) -> dict[str, str]:
        """The commits that there is something of, each with a revision that means it, or with itself."""
        refs = self.path / "refs"
        names = {
            commit: str(path.relative_to(refs))
            for path in sorted(refs.rglob("*"), reverse=True)
            if not path.name.startswith(_SCRATCH)
            and path.is_file()
            and (commit := self.commit_of(str(path.relative_to(refs))))
        }
        found = sorted(path.name for path in (self.path / "snapshots").glob("*") if is_commit(path.name))
        return {commit: names.get(commit, commit) for commit in found}

    def files(self, commit: str) -> list[HubFile]:
        """What the cache has of a commit. Where links are not possible digests are empty."""
        root = self.snapshot(commit)
        found = list[HubFile]()
        for folder, _, names in os.walk(root):
            for path in (Path(folder) / name for name in names):
                # A link whose blob is gone is no file.
                with suppress(OSError):
                    size = path.stat().st_size
                    found.append(HubFile(str(path.relative_to(root)), size, _digest_of(path)))
        return sorted(found, key=lambda file: file.name)

    def link(self, commit: str, file: HubFile) -> None:
        """Give the blob of `file` its name in a commit."""
        path = self.snapshot(commit) / file.name
        if path.is_symlink() and _digest_of(path) == file.digest:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        blob = self.blob(file.digest)
        temporary = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self.path)) / "link"
        try:
            _link_or_copy(blob, os.path.relpath(blob, path.parent), temporary)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary.parent)
        sync_directory(path.parent)

    @property
    def locks(self) -> Path:
        """Where the locks on its blobs are."""
        return hub_cache_dir() / ".locks" / self._folder

    def _is_locked(self, digest: str) -> bool:
        with suppress(FileNotFoundError), open(self.locks / f"{digest}.lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def locked(self, digest: str) -> Generator[None]:
        """Hold the lock on a blob, as other tools do while they fetch it."""
        self.locks.mkdir(parents=True, exist_ok=True)
        with open(self.locks / f"{digest}.lock", "a") as file:
            # The kernel drops it with the process, so a killed one blocks nobody. Where a file system has no
            # locks, a file may be fetched twice; what gets its name is hashed in any case.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextmanager
def writing() -> Generator[None]:
    """Word what keeps the cache from being written. Raises MachineError, ResourceError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ResourceError(
                f"{hub_cache_dir()}: {(error.strerror or '').lower()}; free some space or set HF_HUB_CACHE, "
                "then run it again: it goes on from there"
            ) from error
        if not isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            raise
        what = (error.strerror or str(error)).lower()
        raise MachineError(
            f"{hub_cache_dir()}: must be a writable directory, {what}; set HF_HUB_CACHE"
        ) from error


def source_record(path: Path | None) -> dict[str, Any]:
    """What run.json keeps of where a model comes from: "hub", for one in the cache or a link to it."""
    found = None if path is None else _source(path)
    return {} if found is None else {"hub": found}


def _source(path: Path) -> dict[str, Any] | None:
    found = _SNAPSHOT.fullmatch(str(path.absolute()))
    if found is None:
        return _source(path.parent / os.readlink(path)) if path.is_symlink() else None
    repository = CachedRepository(f"{found[1]}/{found[2]}")
    files = repository.files(found[3]) if hub_cache_dir() in path.absolute().parents else []
    names = None if found[4] is None else part_names(found[4])
    digests = {file.name: file.digest for file in files if names is None or file.name in names}
    return {"repo": repository.repo, "commit": found[3], "files": digests}


def cached_repositories() -> Iterator[CachedRepository]:
    """The model repositories that the cache has something of, by name."""
    for path in sorted(hub_cache_dir().glob("models--*--*")):
        _, org, name = path.name.split("--", 2)
        if path.is_dir() and parse_hub_name(f"{org}/{name}") is not None:
            yield CachedRepository(f"{org}/{name}")


def _write_text(path: Path, text: str) -> None:
    """Replace the file at `path`, whole or not at all, for all to read."""
    handle, temporary = tempfile.mkstemp(prefix=_SCRATCH, dir=path.parent)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _digest_of(path: Path) -> str:
    name = os.path.basename(os.readlink(path)) if stat.S_ISLNK(path.lstat().st_mode) else ""
    return name if is_digest(name) else ""


def _link_or_copy(blob: Path, target: str, link: Path) -> None:
    try:
        link.symlink_to(target)
    except OSError:
        # A file system without links.
        shutil.copyfile(blob, link)
