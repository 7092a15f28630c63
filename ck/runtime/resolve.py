"""What may stand where a model is wanted: a GGUF file, a model folder, a run directory, a known name.

A model folder has config.json. A run directory holds run.json, whose `model.file` is the name of a file or of
a model folder in that directory. That of a training run has one once a checkpoint was promoted; such a run
may be given by its name too.
"""

import difflib
import json
import re
import shlex
from pathlib import Path
from typing import Any

from ck.errors import MalformedError, UnsupportedError, UsageError
from ck.runtime.fetch import Progress, is_pulled, model_path, pull, silent
from ck.runtime.known_models import known_models
from ck.runtime.paths import cache_root


def resolve_model(argument: str, progress: Progress = silent) -> Path:
    """The GGUF file or the model folder that `argument` means; a known name that is not here is pulled.

    Raises UsageError for what does not exist, UnsupportedError for the hub, MalformedError for a broken
    run.json, and what `pull` raises.
    """
    if "://" in argument:
        raise UnsupportedError(f"{argument}: this version reads files, {_names()}, no addresses; {_HINT}")
    if not argument:
        raise _not_found(argument)
    path = Path(argument).expanduser()
    if is_model_folder(path):
        return path
    run = run_directory(argument)
    if run is not None:
        return _of_directory(run)
    if path.is_dir():
        return _of_directory(path)
    if path.exists():
        return path
    model = known_models().get(argument)
    if model is not None:
        return model_path(model) if is_pulled(model) else pull(model, progress)
    raise _not_found(argument)


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a folder as transformers saves a model, and not a run that has one."""
    return (path / "config.json").is_file() and not (path / "run.json").is_file()


def run_directory(argument: str) -> Path | None:
    """The directory with a run.json that `argument` means, a path or the name of a run; None if none.

    A folder without run.json gives way to the run of that name; a file and a folder with one do not.
    """
    path = Path(argument).expanduser()
    if (path / "run.json").is_file():
        return path
    run = cache_root() / "train" / argument
    is_name = Path(argument).name == argument and (path.is_dir() or not path.exists())
    return run if is_name and (run / "run.json").is_file() else None


_HINT = "download the .gguf file and give its path"


def _names() -> str:
    return " or ".join(known_models())


def _of_directory(directory: Path) -> Path:
    record = directory / "run.json"
    if not record.is_file():
        raise UsageError(
            f"{directory}: a folder must have config.json, of a model, or run.json, of a run; it has neither"
        )
    if _is_unpromoted(record):
        is_named = directory.parent == cache_root() / "train"
        argument = directory.name if is_named else shlex.quote(str(directory.absolute()))
        raise UsageError(f"{directory}: this run has no model yet; run: ck promote {argument}")
    name = _model_file(record)
    if name is None:
        raise UsageError(f"{record}: the program was made of a model in memory; give the model itself")
    # A run directory may come from anywhere: its record names a neighbour, never a path.
    if name in ("", ".", "..") or Path(name).name != name:
        raise MalformedError(f"{record}: model.file must be a plain file name, it is {name!r}")
    file = directory / name
    if not (file.is_file() or is_model_folder(file)):
        raise UsageError(f"{record}: model.file must be a model in the directory, {name} is not there")
    return file


def _is_unpromoted(record: Path) -> bool:
    """Whether run.json is that of a training run none of whose checkpoints is its model."""
    try:
        data: Any = json.loads(record.read_text("utf-8"))
        return "hyperparameters" in data and "model" not in data
    except (ValueError, TypeError, RecursionError):
        return False


def _model_file(record: Path) -> str | None:
    """The name of the model in the run directory; None when it was in memory."""
    try:
        data: Any = json.loads(record.read_text("utf-8"))
        name: Any = data["model"]["file"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise MalformedError(f"{record}: must be JSON with model.file, {what}") from error
    if not isinstance(name, str | None):
        raise MalformedError(f"{record}: model.file must be a string, it is {type(name).__name__}")
    return name


def _not_found(argument: str) -> UsageError | UnsupportedError:
    near = difflib.get_close_matches(argument, known_models(), n=1)
    if near:
        return UsageError(f"{argument}: no such file; did you mean {near[0]}?")
    if re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", argument) and not argument.endswith(".gguf"):
        return UnsupportedError(f"{argument}: no such file, and this version has no hub; {_HINT}")
    return UsageError(
        f"{argument}: no such file; give a .gguf file, a model folder, a run directory, or {_names()}"
    )
