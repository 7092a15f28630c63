"""The states of a run that can be gone back to.

checkpoints/step-<N>/
    weights.safetensors  optimizer.safetensors     f32 tensors
    state.json       {schema_version, step, dev_loss, record}
    MANIFEST.json    {schema_version, step, files: {name: {sha256, n_bytes}}}, written last
checkpoints/latest -> step-<N>    the last one saved
checkpoints/best   -> step-<N>    the one with the lowest dev loss

A checkpoint is written as `.new-*`, every file and the folder synced, and gets its name by one rename; the
links are replaced by renames too, before anything they pointed at goes. So at any moment, also one at which
the process or the machine dies, a checkpoint that has a name is whole and a link leads to one. No tensor and
no record is parsed before its file's size and hash are those of the manifest.
"""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ck.errors import CkError, InternalError, MalformedError, UsageError
from ck.runtime.paths import sync_directory
from ck.train.files import UNFINISHED
from ck.train.rundir import INTACT, NOTHING, disk_errors, remove
from ck.train.tensor_file import tensor_file

Tensors = dict[str, NDArray[np.float32]]

WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
STATE, MANIFEST = "state.json", "MANIFEST.json"
FILES = (WEIGHTS, OPTIMIZER, STATE)
SCHEMA_VERSION = 1
_BLOCK_BYTES = 1 << 20
# Linux, fcntl.h and linux/fs.h.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _no_record() -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` updates. `record` is JSON: whatever else the trainer needs to go on."""

    step: int
    weights: Tensors
    optimizer: Tensors
    record: dict[str, Any] = field(default_factory=_no_record)
    dev_loss: float | None = None


class Checkpoints:
    """The checkpoints of one run directory. One process saves at a time: the holder of the run's lock."""

    def __init__(self, run_dir: str | os.PathLike[str], keep_last: int = 3, keep_best: bool = True) -> None:
        """keep_last newest ones stay, and with keep_best the one with the lowest dev loss."""
        if keep_last < 1:
            raise UsageError(f"keep_last: must be at least 1, found {keep_last}")
        self.directory = Path(run_dir) / "checkpoints"
        self.keep_last = keep_last
        self.keep_best = keep_best

    def save(self, checkpoint: Checkpoint, dev_loss: float | None = None, *, prune: bool = True) -> Path:
        """Write `checkpoint`, on disk when this returns, point the links, prune; returns its directory.

        dev_loss, else checkpoint.dev_loss, decides about `best`; NaN never wins. One of the same step is
        replaced. Raises ResourceError when the disk is full, MachineError when it cannot be written to; the
        earlier checkpoints and links are untouched then.
        """
        loss = checkpoint.dev_loss if dev_loss is None else dev_loss
        target = self.path(checkpoint.step)
        with disk_errors(target, INTACT if self.steps() else NOTHING):
            self.directory.mkdir(mode=0o700, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self.directory))
            try:
                _write(scratch, checkpoint, loss)
                self._put(scratch, target)
            finally:
                remove(scratch)
            self._link("latest", target)
            best = self._lowest_loss() if self.keep_best else None
            if best is not None and best != self.linked("best"):
                self._link("best", self.path(best))
            if prune:
                self._prune()
        return target

    def steps(self) -> list[int]:
        """The steps there are checkpoints of, ascending; they need not verify."""
        names = [path.name for path in self.directory.glob("step-*") if path.is_dir()]
        numbers = [name.removeprefix("step-") for name in names]
        return sorted(int(n) for n in numbers if n.isascii() and n.isdigit() and str(int(n)) == n)

    def path(self, step: int) -> Path:
        """Where the checkpoint of `step` lies."""
        return self.directory / f"step-{step}"

    def load(self, step: int) -> Checkpoint:
        """The checkpoint of `step`. Raises UsageError when there is none, MalformedError when damaged."""
        self._check_kept(step)
        with _damage(self.path(step)):
            return _read(self.path(step), step)

    def verify(self, step: int) -> float | None:
        """The dev loss of the checkpoint of `step`, whose files are what they should be; raises as `load`."""
        self._check_kept(step)
        with _damage(self.path(step)):
            return _state(self.path(step), step)["dev_loss"]

    def newest_finite(self, before: int) -> int | None:
        """The newest step before `before` that verifies and whose weights are finite; None when none is."""
        for step in reversed([each for each in self.steps() if each < before]):
            try:
                weights = self.load(step).weights
            except CkError:
                continue
            if all_finite(weights):
                return step
        return None

    def _check_kept(self, step: int) -> None:
        there = self.steps()
        if step not in there:
            known = ", ".join(map(str, there)) or "none"
            raise UsageError(f"{self.directory}: step must be one that is kept, found {step}; kept: {known}")

    def load_newest(self, say: Callable[[str], None]) -> Checkpoint:
        """The newest checkpoint that verifies; `say` gets a line for each newer one: what is wrong with it.

        Raises UsageError when there are none, MalformedError when none verifies.
        """
        steps = self.steps()
        if not steps:
            raise UsageError(f"{self.directory}: needs a checkpoint, found none; start anew with ck train")
        for step in reversed(steps):
            try:
                return self.load(step)
            except CkError as error:
                say(f"skipped step {step}: {error}")
        raise MalformedError(f"{self.directory}: needs a checkpoint that verifies, none of {len(steps)} does")

    def linked(self, name: str) -> int | None:
        """The step that the link `name`, latest or best, points to; None when there is no such link."""
        try:
            number = os.readlink(self.directory / name).removeprefix("step-")
        except OSError:
            return None
        return int(number) if number.isascii() and number.isdigit() else None

    def discard_after(self, step: int) -> list[int]:
        """Remove the checkpoints after `step`, which a run resumed there gives up; returns their steps."""
        later = [each for each in self.steps() if each > step]
        if not later:
            return []
        left = [each for each in self.steps() if each <= step]
        with disk_errors(self.directory):
            self._link("latest", self.path(left[-1]) if left else None)
            if (self.linked("best") or 0) > step:
                best = self._lowest_loss(upto=step)
                self._link("best", None if best is None else self.path(best))
            for each in reversed(later):
                self._drop(each)
            sync_directory(self.directory)
        return later

    def _put(self, scratch: Path, target: Path) -> None:
        """Give `scratch` the name `target`; what had it is at `scratch` afterwards."""
        if not target.exists():
            os.rename(scratch, target)
        elif not _exchange(scratch, target):
            # For the moment between two renames the links lead elsewhere, or there are none.
            others = [step for step in self.steps() if self.path(step) != target]
            for name in ("latest", "best"):
                if self.linked(name) is not None and self.path(self.linked(name) or 0) == target:
                    self._link(name, self.path(others[-1]) if others else None)
            aside = self.directory / f"{UNFINISHED}gone-{target.name}-{os.getpid()}"
            os.rename(target, aside)
            os.rename(scratch, target)
            os.rename(aside, scratch)
        sync_directory(self.directory)

    def _link(self, name: str, target: Path | None) -> None:
        if target is None:
            (self.directory / name).unlink(missing_ok=True)
            return
        scratch = self.directory / f"{UNFINISHED}{name}-{os.getpid()}"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(target.name)
        os.replace(scratch, self.directory / name)
        sync_directory(self.directory)

    def _lowest_loss(self, upto: int | None = None) -> int | None:
        """The step with the lowest dev loss, the earliest of equals; None when none has one."""
        steps = [step for step in self.steps() if upto is None or step <= upto]
        losses = [(_dev_loss(self.path(step)), step) for step in steps]
        known = [(loss, step) for loss, step in losses if loss is not None]
        return min(known)[1] if known else None

    def _prune(self) -> None:
        kept = {*self.steps()[-self.keep_last :], self.linked("latest"), self.linked("best")}
        gone = [step for step in self.steps() if step not in kept]
        for step in gone:
            self._drop(step)
        if gone:
            sync_directory(self.directory)

    def _drop(self, step: int) -> None:
        # Half a checkpoint never has a checkpoint's name.
        scratch = self.directory / f"{UNFINISHED}gone-{step}-{os.getpid()}"
        os.rename(self.path(step), scratch)
        shutil.rmtree(scratch)


def _write(directory: Path, checkpoint: Checkpoint, dev_loss: float | None) -> None:
    state = {
        "schema_version": SCHEMA_VERSION,
        "step": checkpoint.step,
        "dev_loss": None if dev_loss is None or not np.isfinite(dev_loss) else dev_loss,
        "record": checkpoint.record,
    }
    files = {
        WEIGHTS: _write_file(directory / WEIGHTS, _tensor_file(checkpoint.weights)),
        OPTIMIZER: _write_file(directory / OPTIMIZER, _tensor_file(checkpoint.optimizer)),
        STATE: _write_file(directory / STATE, _json(state)),
    }
    manifest = {"schema_version": SCHEMA_VERSION, "step": checkpoint.step, "files": files}
    _write_file(directory / MANIFEST, _json(manifest))
    sync_directory(directory)


def _json(data: Any) -> Iterator[bytes]:
    yield (json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _tensor_file(tensors: Mapping[str, NDArray[np.float32]]) -> Iterator[memoryview | bytes]:
    for name, array in tensors.items():
        if array.dtype != np.dtype("<f4"):
            raise InternalError(f"checkpoint: tensor {name} must be f32, found {array.dtype}")
    return tensor_file({name: array.shape for name, array in tensors.items()}, tensors.values())


def _write_file(path: Path, pieces: Iterator[memoryview | bytes]) -> dict[str, Any]:
    """Write and sync a file; returns its entry in the manifest."""
    digest = hashlib.sha256()
    n_bytes = 0
    with open(path, "wb") as out:
        for piece in pieces:
            out.write(piece)
            digest.update(piece)
            n_bytes += len(piece)
        out.flush()
        os.fsync(out.fileno())
    return {"sha256": digest.hexdigest(), "n_bytes": n_bytes}


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names in one step; False, and nothing done, on a file system that cannot."""
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    if rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code), str(b))


def all_finite(tensors: Mapping[str, NDArray[np.float32]]) -> bool:
    """Whether no tensor has a NaN or an infinity."""
    return all(bool(np.isfinite(values).all()) for values in tensors.values())


def _read(directory: Path, step: int) -> Checkpoint:
    state = _state(directory, step)
    weights, optimizer = _tensors(directory / WEIGHTS), _tensors(directory / OPTIMIZER)
    return Checkpoint(step, weights, optimizer, state["record"], state["dev_loss"])


def _state(directory: Path, step: int) -> dict[str, Any]:
    """What state.json says, once all files are those of the manifest."""
    _verify(directory, step)
    raw: object = json.loads((directory / STATE).read_bytes())
    state = cast(dict[str, Any], raw) if isinstance(raw, dict) else {}
    if (state.get("schema_version"), state.get("step")) != (SCHEMA_VERSION, step):
        raise ValueError(f"{STATE} must be an object, version {SCHEMA_VERSION} of step {step}")
    loss = state["dev_loss"]
    if not isinstance(state["record"], dict) or not isinstance(loss, int | float | None):
        raise ValueError(f"{STATE} must have an object as record, and a number or null as dev_loss")
    return state


@contextmanager
def _damage(directory: Path) -> Generator[None]:
    """Turn whatever reading a damaged checkpoint raises into one line."""
    try:
        yield
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise MalformedError(f"{directory}: must have {name}, which is missing") from error
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise MalformedError(f"{directory}: must be readable, {what}") from error
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise MalformedError(f"{directory}: must be a checkpoint of ck, {error}") from error


def _tensors(path: Path) -> Tensors:
    # The package's stub leaves open what the file is.
    with cast(Any, safe_open(path, framework="numpy")) as file:
        names: list[str] = file.keys()
        tensors: Tensors = {name: file.get_tensor(name) for name in names}
    if any(array.dtype != np.float32 for array in tensors.values()):
        raise ValueError(f"{path.name} must hold f32 tensors alone")
    return tensors


def _verify(directory: Path, step: int) -> None:
    manifest = json.loads((directory / MANIFEST).read_bytes())
    if (manifest["schema_version"], manifest["step"]) != (SCHEMA_VERSION, step):
        found = f"{manifest['schema_version']} of step {manifest['step']}"
        raise ValueError(f"{MANIFEST} must be version {SCHEMA_VERSION} of step {step}, found {found}")
    for name in FILES:
        entry = manifest["files"][name]
        n_bytes = (directory / name).stat().st_size
        if n_bytes != entry["n_bytes"]:
            raise ValueError(f"{name} must be {entry['n_bytes']} bytes, found {n_bytes}")
        digest = hashlib.sha256()
        with open(directory / name, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        if digest.hexdigest() != entry["sha256"]:
            raise ValueError(f"{name} must have sha256 {entry['sha256']}, found {digest.hexdigest()}")


def _dev_loss(directory: Path) -> float | None:
    """The dev loss that a checkpoint was saved with; None when it has none or cannot be read."""
    try:
        return float(json.loads((directory / STATE).read_bytes())["dev_loss"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
