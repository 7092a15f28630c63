"""A run directory: where one training run keeps everything, held by one trainer at a time.

    $CK_CACHE_DIR/train/<name>/    a plain name; a path with a separator lies where it says
      run.lock                     locked while a trainer is at work; holds its process id
      run.json  config.toml  tokenizer.json
      base/                        of a run that began with a model: base_side.py
      data/  ir/  build/  checkpoints/  tensorboard/  reports/  metrics.jsonl

Every file is written beside its place as `.new-*`, synced, renamed, and its directory synced: a reader finds
the earlier file or the whole new one. What a killed trainer left half-written goes when the next one starts.

A directory is a run once it has run.json. One that a start which failed has left has run.lock and nothing but
ENTRIES; a new run may begin there, as in an empty one. No other directory is written to.
"""

import errno
import fcntl
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

from ck.errors import CkError, ConflictError, MachineError, MalformedError, ResourceError, UsageError
from ck.frontend.gguf.cursor import shown
from ck.runtime.paths import cache_root, given_path, private_dir
from ck.train.files import UNFINISHED, replacing

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# All that a run's directory holds, beside what is unfinished.
ENTRIES = {
    *("run.lock", "run.json", "config.toml", "tokenizer.json", "metrics.jsonl", "model.gguf"),
    *("base", "model", "data", "ir", "build", "checkpoints", "tensorboard", "reports"),
}
# How long a lock may be held before its holder has written its process id.
_PID_WAIT_S = 0.5
# What is there all the same when something could not be written.
INTACT, NOTHING = "what was saved is intact", "nothing was saved"


class RunDirectory(os.PathLike[str]):
    """One run's directory; `create` and `open` make it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, name: str, data: Sequence[Path] = ()) -> "RunDirectory":
        """The directory of a new run on the files and folders `data`, created (0700).

        Raises ConflictError when there is a run or anything else of somebody's in it, UsageError when it lies
        in the data or the data in it.
        """
        run = cls(_locate(name))
        _check_apart(run.path, data)
        with output_errors(run.path):
            if (run.path / "run.json").exists():
                raise ConflictError(
                    f"{run.path}: must be a new run, found one; run: ck resume {run.argument}, or choose "
                    "another name"
                )
            if foreign := _foreign(run.path):
                raise ConflictError(
                    f"{run.path}: must be empty, not there yet, or what a start that failed has left, found "
                    f"{shown(foreign)}; choose another place for the run"
                )
            if _is_path(name):
                run.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            else:
                private_dir(run.path)
        return run

    @classmethod
    def open(cls, name: str) -> "RunDirectory":
        """The directory of a run that exists. Raises UsageError when there is none, MalformedError when its
        run.json is no JSON object.
        """
        run = cls(_locate(name))
        record = run.path / "run.json"
        if not record.is_file():
            raise UsageError(f"{run.path}: must be a run directory, has no run.json; start one with ck train")
        if not isinstance(found := read_json(record), dict):
            raise MalformedError(f"{record}: must be a JSON object, found {type(found).__name__}")
        return run

    @property
    def argument(self) -> str:
        """What a command line calls the run by, quoted where a shell needs it."""
        is_named = _NAME.fullmatch(self.path.name) and self.path == _locate(self.path.name)
        return self.path.name if is_named else shlex.quote(str(self.path))

    def __fspath__(self) -> str:
        return str(self.path)

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the run. Raises ConflictError, naming the holder's process id, while another trainer does.

        The kernel drops the lock with the process, so a killed trainer blocks nobody.
        """
        path = self.path / "run.lock"
        with disk_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with disk_errors(path):
                _take_lock(handle, self.path)
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
                if (self.path / "run.json").is_file() or not _foreign(self.path):
                    clear_scratch(self.path)
            yield
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Replace the file `name` by one with `data`; returns its path. `write_atomically` says how."""
        return write_atomically(self.path / name, data)

    def write_json(self, name: str, data: Any) -> Path:
        """Replace the file `name` by one with `data` as JSON, which has no NaN and no infinity."""
        text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        return self.write_bytes(name, text.encode())

    def read_json(self, name: str) -> Any:
        """The JSON in the file `name`; errors as the function `read_json`."""
        return read_json(self.path / name)


def run_name(run: object) -> str:
    """A run as a command line names it: text as it is, a path as one. Raises UsageError for other things."""
    match run:
        case str():
            return run
        case PathLike():
            path = fspath(cast("PathLike[str]", run))
            return path if _is_path(path) else f".{os.sep}{path}"
        case _:
            raise UsageError(f"run: must be a name or a path, found {shown(repr(run))}")


def _is_path(name: str) -> bool:
    return os.sep in name


def _foreign(path: Path) -> str:
    """The name of something in a directory that shows it to be no run's; empty when there is none."""
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError:
        return ""
    if names and "run.lock" not in names:
        return names[0]
    return next((name for name in names if name not in ENTRIES and not name.startswith(UNFINISHED)), "")


def _check_apart(path: Path, data: Sequence[Path]) -> None:
    """Raises UsageError when one of `data` holds the run or lies in it."""
    place = path.resolve()
    for each in data:
        source = each.resolve()
        # What is hidden is not read.
        if place.is_relative_to(source) and not any(
            part.startswith(".") for part in place.relative_to(source).parts
        ):
            raise UsageError(f"--run: must lie outside of the data, found {path} in {each}; move one of them")
        if source.is_relative_to(place):
            raise UsageError(f"--data: must lie outside of the run, found {each} in {path}; move one of them")


def _locate(name: str) -> Path:
    if _is_path(name):
        path = given_path(name).absolute()
        if path == path.parent:
            raise UsageError(f"--run: must be a directory of the run's own, found {name}; give it a name")
        return path
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--run: must be at most 100 letters, digits, '.', '_' and '-', a letter or digit first, "
            f"found {name!r}; a path needs a separator, such as ./runs/a"
        )
    return cache_root() / "train" / name


def _take_lock(handle: int, directory: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(handle)
        raise ConflictError(
            f"{directory}: one trainer at a time, process {holder} is at work; wait for it, or end it with: "
            f"kill {holder}"
        ) from None


def _holder(handle: int) -> str:
    deadline = time.monotonic() + _PID_WAIT_S
    while not (text := os.pread(handle, 32, 0).decode(errors="replace").strip()):
        if time.monotonic() > deadline:
            return "unknown"
        time.sleep(0.01)
    return text


def clear_scratch(directory: Path) -> None:
    """Remove what a killed writer left in `directory` and its folders. For the holder of the lock alone."""
    for pattern in (f"{UNFINISHED}*", f"*/{UNFINISHED}*"):
        for path in directory.glob(pattern):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; one that is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> Path:
    """Make `path`, in a folder that exists, a file with `data`, whole and on disk when this returns.

    Raises ResourceError when the disk is full and MachineError when the folder cannot be written to; the
    earlier file is untouched then and nothing is left beside it.
    """
    with disk_errors(path), replacing(path) as out:
        out.write(data)
    return path


def read_json(path: Path) -> Any:
    """The JSON in `path`. Raises UsageError when the file is missing, MalformedError when it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: must be a file, found none") from None
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{path}: must be JSON, {error}") from error


@contextmanager
def disk_errors(path: Path, kept: str = INTACT) -> Generator[None]:
    """Turn what the system says about writing `path` into one line: ResourceError or MachineError.

    `kept` says what of the run is there all the same.
    """
    try:
        yield
    except OSError as error:
        raise disk_error(path, error, kept) from error


@contextmanager
def output_errors(path: Path) -> Generator[None]:
    """The same for `path` on its own, which is written whole or not at all."""
    try:
        yield
    except OSError as error:
        kept = "what was there is intact" if os.path.lexists(path) else NOTHING
        raise disk_error(path, error, kept) from error


def disk_error(path: Path, error: OSError, kept: str) -> CkError:
    """The error for the user when `path` could not be written."""
    what = (error.strerror or str(error)).lower()
    if error.errno in _DISK_FULL:
        return ResourceError(f"{path}: needs room on its disk, {what}; free some, {kept}")
    return MachineError(f"{path}: must be writable, {what}; {kept}")
