"""Compiled programs on disk: found by a front key without any IR, made and named by the IR's own key.

programs/front/<front key>       names a program
programs/<ir key>/               a run directory
    run.json                     model, options, toolchain, machine
    manifest.json  constants.npz what the program needs from the runtime
    ir/NN-<stage>.mlir           every stage
    build/program.c  program.so  cc.log
    SHA256SUMS                   of what is loaded; checked before it is
    model.gguf                   a link to the model
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.ir.rt.slots import Manifest
from ck.runtime.paths import private_dir, programs_dir

LOADED = ("manifest.json", "constants.npz", "run.json", "build/program.so")


@dataclass(frozen=True)
class StoredProgram:
    """A program's directory, verified."""

    directory: Path
    manifest: Manifest
    constants: dict[str, NDArray[np.float32]]
    record: dict[str, Any]

    @property
    def shared_object(self) -> Path:
        return self.directory / "build" / "program.so"

    def ir(self, stage: str) -> str:
        """The text of a stage. Raises KeyError with the stages there are."""
        stages = {
            path.stem.partition("-")[2]: path for path in sorted((self.directory / "ir").glob("*.mlir"))
        }
        if stage not in stages:
            raise KeyError(f"stage {stage}: one of {', '.join(stages)} is required")
        return stages[stage].read_text()

    def source(self) -> str:
        """The generated C."""
        return (self.directory / "build" / "program.c").read_text()


def digest(*parts: object) -> str:
    """SHA-256, in hex, over the parts' texts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def find(front_key: str) -> StoredProgram | None:
    """The program under `front_key`; None when there is none or it does not verify."""
    try:
        name = (programs_dir() / "front" / front_key).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return load(programs_dir() / name) if name.isalnum() else None


def load(directory: Path) -> StoredProgram | None:
    """The program in `directory`; None when a file is missing or is not what was written."""
    try:
        if (directory / "SHA256SUMS").read_text() != _sums(directory):
            return None
        manifest = Manifest.from_json(json.loads((directory / "manifest.json").read_text()))
        record = json.loads((directory / "run.json").read_text())
        with np.load(directory / "constants.npz") as stored:
            constants = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return StoredProgram(directory, manifest, constants, record)


def _sums(directory: Path) -> str:
    lines = [f"{hashlib.sha256((directory / name).read_bytes()).hexdigest()}  {name}\n" for name in LOADED]
    return "".join(lines)


def scratch() -> Path:
    """A fresh directory beside the programs, to build one in."""
    return Path(tempfile.mkdtemp(prefix=".new-", dir=programs_dir()))


def keep(built: Path, ir_key: str, front_key: str, replace: bool = False) -> StoredProgram:
    """Put the finished directory `built` in its place and name it under `front_key`; then load it.

    A program that is there already stays, unless it does not verify or `replace` is given.

    Two processes that build one program both succeed: the second finds the first one's and takes that.
    """
    (built / "SHA256SUMS").write_text(_sums(built))
    for path in _files(built):
        _sync(path)
    target = programs_dir() / ir_key
    if replace or load(target) is None:
        shutil.rmtree(target, ignore_errors=True)
        try:
            os.rename(built, target)
        except OSError:
            if load(target) is None:
                raise
    shutil.rmtree(built, ignore_errors=True)
    front = private_dir(programs_dir() / "front")
    handle, temporary = tempfile.mkstemp(dir=front, prefix=".new-")
    with os.fdopen(handle, "w") as out:
        out.write(ir_key + "\n")
    os.replace(temporary, front / front_key)
    stored = load(target)
    if stored is None:
        raise OSError(f"{target}: the program just written does not verify")
    return stored


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
