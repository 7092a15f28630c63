"""Where ck keeps what it makes: `$CK_CACHE_DIR`, else `$XDG_CACHE_HOME/ck`, else `~/.cache/ck`.

    models/<name>/     pulled models
    programs/          compiled programs
    reproducers/       the IR on which a pass crashed, for ck-opt --reproduce

Every directory ck creates is private (0700). One that another user owns or may write to is refused, because
programs found there are loaded into this process.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ck.errors import MachineError


def given_path(text: str) -> Path:
    """The path that a person wrote; a ~ at its start that is nobody's home directory stays as it is."""
    return Path(os.path.expanduser(text))


def cache_root() -> Path:
    """The cache directory, absolute; it need not exist. Raises MachineError when there is no home for it."""
    own = os.environ.get("CK_CACHE_DIR")
    if own:
        if own.startswith("~") and given_path(own) == Path(own):
            home = Path(own).parts[0]
            raise MachineError(f"cache: CK_CACHE_DIR must be a directory, {home} is nobody's home")
        return given_path(own).absolute()
    # The XDG specification has a relative path ignored.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):
        return Path(xdg) / "ck"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise MachineError("cache: needs a home directory, HOME is not set; set CK_CACHE_DIR to a directory")
    return Path(home) / ".cache" / "ck"


def models_path() -> Path:
    """The directory of pulled models; it need not exist."""
    return cache_root() / "models"


def models_dir() -> Path:
    """The private directory of pulled models, created."""
    return private_dir(models_path())


def programs_dir() -> Path:
    """The private directory of compiled programs, created."""
    return private_dir(cache_root() / "programs")


def private_dir(path: Path) -> Path:
    """`path` as a directory only this user writes to, created with its parents (0700) where missing.

    Raises MachineError when it cannot be made, is another user's, or is writable by others.
    """
    with _directory_errors(path):
        _make_private(path)
    return _require_private(path)


def check_private_dir(path: Path) -> None:
    """Raise as `private_dir`, and make nothing."""
    if path.is_dir():
        _require_private(path)
        return
    with _directory_errors(path):
        check_makeable(path)


def check_makeable(path: Path) -> None:
    """Raise the OSError that making the directory `path`, or a file in it, would; nothing is made."""
    there = nearest(path)
    code = errno.ENOTDIR if not there.is_dir() else 0 if os.access(there, os.W_OK | os.X_OK) else errno.EACCES
    if code:
        raise OSError(code, os.strerror(code), str(there))


def nearest(path: Path) -> Path:
    """`path`, or the first of its parents that is there."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


@contextmanager
def _directory_errors(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise MachineError(f"{path}: must be a writable directory, {what}; set CK_CACHE_DIR") from error


def _require_private(path: Path) -> Path:
    with _directory_errors(path):
        info = path.stat()
    user = os.geteuid()
    if info.st_uid != user:
        raise MachineError(f"{path}: must belong to user {user}, belongs to {info.st_uid}; set CK_CACHE_DIR")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise MachineError(f"{path}: must not be writable by others; run: chmod 700 '{path}'")
    return path


def _make_private(path: Path) -> None:
    for directory in [*reversed(path.parents), path]:
        if not directory.is_dir():
            directory.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def at_work(directory: Path) -> Generator[None]:
    """Let `is_at_work` be true of `directory` for the block, under whatever name it has then."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The kernel drops it with the process: what a killed one leaves is nobody's. Not every file system
        # has locks; where there are none it looks like that from the beginning.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_at_work(path: Path) -> bool:
    """Whether a process is at work in the directory `path`, or holds the file .lock in it."""
    for place in (path, path / ".lock"):
        with suppress(OSError):
            handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(handle)
    return False


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable: a rename is on disk once its directory is."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def tree_bytes(path: Path) -> int:
    """Bytes of the files at and under `path`."""
    inside = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    total = 0
    for file in inside if path.is_dir() else [path]:
        # Another process may move and delete while this looks.
        with suppress(FileNotFoundError):
            total += os.lstat(file).st_size
    return total
