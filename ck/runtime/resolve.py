"""What may stand where a model is wanted: a GGUF file, a model folder, a run directory, a name.

A model folder has config.json. A run directory holds run.json, whose `model.file` is the name of a file or of
a model folder in that directory. That of a training run has one once a checkpoint was promoted; such a run
may be given by its name too. A name is one that ck knows or one on the hub (`parse_hub_name`); what is on
disk under it comes first.
"""

import difflib
import json
import os
import shlex
from pathlib import Path
from typing import Any

from ck.errors import CkError, MalformedError, UsageError
from ck.runtime.fetch import Progress, is_pulled, model_path, pull, silent
from ck.runtime.known_models import known_models
from ck.runtime.paths import cache_root, given_path


def resolve_model(argument: str, progress: Progress = silent, locked: bool = False) -> Path:
    """The GGUF file or the model folder that `argument` means; one that is not here is fetched.

    `locked` is for names on the hub: their revision must be what it was. Raises UsageError for what does not
    exist, UnsupportedError for what is no model, MalformedError for a broken run.json, and what `pull` and
    `fetch` raise.
    """
    if "://" not in argument:
        found = _on_disk(argument)
        if found is not None:
            return found
        model = known_models().get(argument)
        if model is not None:
            return model_path(model) if is_pulled(model) else pull(model, progress)
    # What is here needs nothing of the hub's part, whose import takes longer than to find it.
    from ck.runtime.hub_client import endpoint
    from ck.runtime.hub_fetch import fetch
    from ck.runtime.hub_name import parse_hub_name

    name = parse_hub_name(argument, endpoint())
    if name is None:
        here = "a .gguf file, a model folder, a run directory"
        raise not_found(argument, "file", f"{here}, {known_names()}, or ORG/NAME:TYPE of the hub")
    return fetch(name, progress, locked)


def resolve_adapter(argument: str | os.PathLike[str]) -> Path:
    """The folder of an adapter that `argument` means, which is fetched when it is a name on the hub.

    A path to nothing is returned as it is. Raises as `resolve_model`.
    """
    text = os.fspath(argument)
    path = given_path(text)
    if "://" not in text and path.exists():
        return path
    from ck.runtime.hub_client import endpoint
    from ck.runtime.hub_fetch import fetch
    from ck.runtime.hub_files import choose_adapter
    from ck.runtime.hub_name import parse_hub_name

    name = parse_hub_name(text, endpoint())
    return path if name is None else fetch(name, choose=choose_adapter)


def _on_disk(argument: str) -> Path | None:
    if not argument:
        return None
    path = given_path(argument)
    if is_model_folder(path):
        return path
    run = run_directory(argument)
    if run is not None:
        return _of_directory(run)
    if path.is_dir():
        return _of_directory(path)
    return path if path.exists() else None


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a folder as transformers saves a model, and not a run that has one."""
    return (path / "config.json").is_file() and not (path / "run.json").is_file()


def run_directory(argument: str) -> Path | None:
    """The directory with a run.json that `argument` means, a path or the name of a run; None if none.

    A folder without run.json gives way to the run of that name; a file and a folder with one do not.
    """
    path = given_path(argument)
    if (path / "run.json").is_file():
        return path
    run = cache_root() / "train" / argument
    is_name = Path(argument).name == argument and (path.is_dir() or not path.exists())
    return run if is_name and (run / "run.json").is_file() else None


def known_names() -> str:
    """The names that ck knows, in a line."""
    return ", ".join(known_models())


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


def not_found(argument: str, kind: str, wanted: str) -> UsageError:
    """The error for what is neither here nor written as a name: no such `kind`; `wanted` can be given."""
    near = difflib.get_close_matches(argument, known_models(), n=1)
    if near:
        return UsageError(f"{argument}: no such {kind}; did you mean {near[0]}?")
    if _is_file_of_repository(argument):
        return UsageError(f"{argument}: no such {kind}; one on the hub is written hf://{argument}")
    return UsageError(f"{argument}: no such {kind}; give {wanted}")


def _is_file_of_repository(argument: str) -> bool:
    """Whether `argument` is written as a file of a repository, but for what a name of one begins with."""
    from ck.runtime.hub_name import SCHEME, parse_hub_name

    try:
        name = parse_hub_name(f"{SCHEME}{argument}")
    except CkError:
        return False
    return name is not None and name.file is not None
