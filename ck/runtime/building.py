"""A program by the backend that is wanted: from the cache, else built into it.

Where none is named it is C, or LLVM where no C compiler works, with a CkWarning that says so. A compiler
works when it makes this program. One that is missing is not tried; that one failed is remembered beside the
program that LLVM made in its place, so it is not tried on it again.
"""

import errno
import gc
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from ck import __version__
from ck.backend.backends import Backend, backend
from ck.backend.c.build import CompilerError
from ck.errors import CkWarning, MachineError, ResourceError
from ck.runtime import store
from ck.runtime.library import HEADER, library

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# Puts a program into a fresh directory by a backend; returns what tells it from others beside its front key.
Fill = Callable[[Path, Backend], tuple[object, ...]]


def wanted_backend(name: str | None) -> Backend | None:
    """The backend of that name; None where none is named. Raises UsageError."""
    return None if name is None else backend(name)


def find_or_build(
    parts: tuple[object, ...], fill: Fill, wanted: Backend | None, force: bool
) -> store.StoredProgram:
    """The program that `parts` name, by the backend `wanted`; `force` builds what is in the cache as well.

    Raises MachineError when the backend does not work here, ResourceError when the disk is full.
    """
    if wanted is not None:
        return _by_this(wanted, parts, fill, force)
    first = backend("c")
    try:
        first.require()
    except CompilerError as error:
        return _fall_back(parts, fill, force, str(error))
    memory = store.digest("fallback", _front_key(first, parts))
    if not force and (found := store.find_with_note(memory)) is not None:
        _say(found[1])
        return found[0]
    try:
        return _by(first, parts, fill, force)
    except CompilerError as error:
        made = _fall_back(parts, fill, force, str(error))
        store.put_front(memory, made.directory.name, f"{error}; ck cache prune forgets that")
        return made


def _by_this(made_by: Backend, parts: tuple[object, ...], fill: Fill, force: bool) -> store.StoredProgram:
    """The program by this backend and no other."""
    try:
        made_by.require()
        return _by(made_by, parts, fill, force)
    except CompilerError as error:
        raise MachineError(f"{error}; or pass --backend llvm, which needs no C compiler") from error


def _fall_back(parts: tuple[object, ...], fill: Fill, force: bool, why: str) -> store.StoredProgram:
    """The program by the backend that needs no C compiler, after a word about it."""
    second = backend("llvm")
    try:
        second.require()
    except MachineError as error:
        raise MachineError(f"{why}; {error}") from error
    _say(why)
    return _by(second, parts, fill, force)


def _say(why: str) -> None:
    text = f"taking backend llvm, which gives the same results: {why}"
    warnings.warn(CkWarning(text), stacklevel=2)


def _by(made_by: Backend, parts: tuple[object, ...], fill: Fill, force: bool) -> store.StoredProgram:
    front_key = _front_key(made_by, parts)
    found = None if force else store.find(front_key)
    return found or _build(made_by, front_key, fill, force)


def _front_key(made_by: Backend, parts: tuple[object, ...]) -> str:
    """Changes with ck, its sources, the processor's features and whatever compiles."""
    features = library().ck_cpu_features()
    return store.digest(*parts, __version__, _own_sources(), features, made_by.name, made_by.identity())


def _build(made_by: Backend, front_key: str, fill: Fill, replace: bool) -> store.StoredProgram:
    with store.scratch() as scratch:
        try:
            with _no_collection():
                # One IR may have other constants, the frequencies of positions: the front key knows them.
                own_key = store.digest(*fill(scratch, made_by), front_key)
            return store.keep(scratch, own_key, front_key, replace)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise ResourceError(
                f"{scratch.parent}: {error.strerror}; free some space or set CK_CACHE_DIR"
            ) from error


@contextmanager
def _no_collection() -> Generator[None]:
    """Keep the cycle collector out of a compilation, where it took a tenth of the time and found nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _own_sources() -> str:
    """Changes whenever a file of ck does: a working copy never meets a program of an older self."""
    root = Path(__file__).resolve().parent.parent
    parts = sorted([*root.rglob("*.py"), HEADER])
    return store.digest(*(f"{path} {(info := path.stat()).st_size} {info.st_mtime_ns}" for path in parts))
