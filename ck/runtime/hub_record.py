"""What was fetched under a name, in a run directory of its own: models/ORG--NAME/<revision and file>/.

    run.json           repository, revision, commit; digest, size and time of each file; when it was fetched
    *.gguf, model      links to the files or the folder in the hub's cache

`ck run --locked` compares with it, and a file that it lists unchanged is not hashed again.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ck.runtime.hub_cache import CachedRepository, is_commit
from ck.runtime.hub_files import Choice, HubFile
from ck.runtime.hub_name import HubName
from ck.runtime.paths import models_dir, models_path, private_dir, sync_directory

RECORD = "run.json"
_LABEL_LIMIT = 100


@dataclass(frozen=True)
class HubRecord:
    """What run.json says. files: digest, bytes and time of change, by name, when contents were checked."""

    commit: str
    files: dict[str, tuple[str, int, int]]


def record_dir(name: HubName) -> Path:
    """The directory of `name`; it need not exist."""
    label = re.sub(
        r"[^\w.-]", "--", "--".join(filter(None, (name.ref, name.quant, name.file))), flags=re.ASCII
    )
    if len(label) > _LABEL_LIMIT or label != name.ref:
        # Two names must not meet in one directory: what was replaced, or cut off, tells them apart.
        label = f"{label[:_LABEL_LIMIT]}-{hashlib.sha256(str(name).encode()).hexdigest()[:8]}"
    return models_path() / name.repo.replace("/", "--") / label


def read_record(name: HubName) -> HubRecord | None:
    """What is known of `name`; None when nothing is, or nothing of use."""
    try:
        data: Any = json.loads((record_dir(name) / RECORD).read_text("utf-8"))
        hub = data["hub"]
        files = {
            file: (str(row["digest"]), int(row["n_bytes"]), int(row["mtime_ns"]))
            for file, row in cast("dict[str, Any]", hub["files"]).items()
        }
        return HubRecord(str(hub["commit"]), files) if is_commit(hub["commit"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def is_verified(record: HubRecord | None, file: HubFile, blob: Path) -> bool:
    """Whether the contents of a blob were checked before, and nothing touched it since."""
    known = None if record is None else record.files.get(file.name)
    return known == (file.digest, file.n_bytes, blob.stat().st_mtime_ns)


def write_record(name: HubName, commit: str, choice: Choice, path: Path, kept: HubRecord | None) -> None:
    """Keep what `name` is now, unless that is what it was. `path`: the model in the hub's cache."""
    repository = CachedRepository(name.repo)
    files = {file.name: _row(repository.snapshot(commit) / file.name, file) for file in choice.files}
    directory = record_dir(name)
    if kept == HubRecord(commit, files) and (directory / RECORD).is_file():
        return
    private_dir(models_dir() / directory.parent.name)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=directory.parent))
    try:
        links = {"model": path}
        if choice.main is not None:
            links = {
                os.path.basename(file.name): path.parent / os.path.basename(file.name)
                for file in choice.files
            }
        for link, target in links.items():
            (scratch / link).symlink_to(target)
        record = _record(name, commit, files, next(iter(links)))
        (scratch / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        # Another process may put its own there at any time: either is right.
        with suppress(OSError):
            shutil.rmtree(directory, ignore_errors=True)
            os.rename(scratch, directory)
            sync_directory(directory.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _row(path: Path, file: HubFile) -> tuple[str, int, int]:
    return file.digest, file.n_bytes, path.stat().st_mtime_ns


def _record(name: HubName, commit: str, files: dict[str, tuple[str, int, int]], link: str) -> dict[str, Any]:
    rows = {
        file: dict(zip(("digest", "n_bytes", "mtime_ns"), row, strict=True)) for file, row in files.items()
    }
    return {
        "schema_version": 1,
        "model": {"name": name.repo, "file": link},
        "hub": {"repo": name.repo, "revision": name.ref, "commit": commit, "files": rows},
        "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
