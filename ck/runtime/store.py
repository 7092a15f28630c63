"""Compiled programs on disk: found by a front key without any IR, made and named by the IR's own key.

programs/front/<front key>       names a program, and may have a note
programs/<ir key>/               a run directory
    run.json                     model, options, backend, toolchain, machine
    manifest.json  constants.npz what the program needs from the runtime
    ir/NN-<stage>.mlir           every stage
    build/program.c  program.so  cc.log, or program.ll  program.o
    SHA256SUMS                   of what is loaded; checked before it is
    model.gguf, model            a link to the model, a file or a folder, or to each part of a file;
                                 none to one that was in memory
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.backend.backends import Backend, backend
from ck.errors import UsageError
from ck.ir.rt.slots import Manifest
from ck.runtime.paths import at_work, private_dir, programs_dir

LOADED = ("manifest.json", "constants.npz", "run.json")


@dataclass(frozen=True)
class StoredProgram:
    """A program's directory, verified."""

    directory: Path
    manifest: Manifest
    constants: dict[str, NDArray[np.float32]]
    record: dict[str, Any]

    @property
    def backend(self) -> Backend:
        """What made it."""
        return backend(self.record["backend"])

    @property
    def compiled(self) -> Path:
        """The file that is loaded."""
        return self.directory / "build" / self.backend.object_name

    def ir(self, stage: str) -> str:
        """The text of a stage. Raises KeyError with the stages there are."""
        stages = {
            path.stem.partition("-")[2]: path for path in sorted((self.directory / "ir").glob("*.mlir"))
        }
        if stage not in stages:
            raise KeyError(f"stage {stage}: one of {', '.join(stages)} is required")
        return stages[stage].read_text()

    def source(self) -> str:
        """The text that was compiled."""
        return (self.directory / "build" / self.backend.source_name).read_text()


def digest(*parts: object) -> str:
    """SHA-256, in hex, over the parts' texts; names of files in them may be no UTF-8."""
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="surrogateescape")).hexdigest()


def find(front_key: str) -> StoredProgram | None:
    """The program under `front_key`; None when there is none or it does not verify."""
    found = find_with_note(front_key)
    return None if found is None else found[0]


def find_with_note(front_key: str) -> tuple[StoredProgram, str] | None:
    """The program under `front_key` and the note beside it; None as for `find`."""
    try:
        directory, _, note = (programs_dir() / "front" / front_key).read_text().partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    program = load(programs_dir() / directory) if directory.isalnum() else None
    return None if program is None else (program, note.strip())


def load(directory: Path) -> StoredProgram | None:
    """The program in `directory`; None when a file is missing or what is loaded is not what was written."""
    try:
        record = json.loads((directory / "run.json").read_text())
        if (directory / "SHA256SUMS").read_text() != _sums(directory, record):
            return None
        if not all(text.stat().st_size for text in _texts(directory, record)):
            return None
        manifest = Manifest.from_json(json.loads((directory / "manifest.json").read_text()))
        with np.load(directory / "constants.npz") as stored:
            constants = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, TypeError, UsageError):
        return None
    return StoredProgram(directory, manifest, constants, record)


def _sums(directory: Path, record: dict[str, Any]) -> str:
    names = [*LOADED, f"build/{backend(record['backend']).object_name}"]
    lines = [f"{hashlib.sha256((directory / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    return "".join(lines)


def _texts(directory: Path, record: dict[str, Any]) -> Iterator[Path]:
    """The files that `StoredProgram.ir` and `source` read: only that they are there is looked at."""
    source_name = backend(record["backend"]).source_name
    yield directory / "build" / source_name
    stages = [name for name in record["seconds"] if name != record["backend"]]
    yield from (directory / "ir" / f"{number:02}-{stage}.mlir" for number, stage in enumerate(stages))


@contextmanager
def scratch() -> Generator[Path]:
    """A fresh directory beside the programs, to build one in: gone with the block, unless it was kept.

    Until then, and under the name that it is kept by, `is_at_work` is true of it.
    """
    directory = Path(tempfile.mkdtemp(prefix=".new-", dir=programs_dir()))
    try:
        with at_work(directory):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def keep(built: Path, ir_key: str, front_key: str, replace: bool = False) -> StoredProgram:
    """Put the finished directory `built` in its place and name it under `front_key`; then load it.

    A program that is there already stays, unless it does not verify or `replace` is given.

    Two processes that build one program both succeed: the second finds the first one's and takes that.
    """
    record = json.loads((built / "run.json").read_text())
    (built / "SHA256SUMS").write_text(_sums(built, record))
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
    put_front(front_key, ir_key)
    stored = load(target)
    if stored is None:
        raise OSError(f"{target}: the program just written does not verify")
    return stored


def put_front(front_key: str, ir_key: str, note: str = "") -> None:
    """Let `front_key` mean the program `ir_key` from now on, with a line beside it."""
    while True:
        front = private_dir(programs_dir() / "front")
        # Another process may delete the directory at any time.
        with suppress(FileNotFoundError):
            handle, temporary = tempfile.mkstemp(dir=front, prefix=".new-")
            with os.fdopen(handle, "w") as out:
                out.write(f"{ir_key}\n{note}\n")
            os.replace(temporary, front / front_key)
            return


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
