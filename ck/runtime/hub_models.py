"""What the Hugging Face cache has of models, whoever fetched them: to list, to check, to delete."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ck.errors import CkError
from ck.runtime.hub_cache import CachedRepository, cached_repositories, has_digest, is_digest
from ck.runtime.hub_files import choose_model, whole_models
from ck.runtime.hub_name import DEFAULT_REVISION, HubName
from ck.runtime.paths import models_dir, tree_bytes


@dataclass(frozen=True)
class CachedModel:
    """A model all of whose files are there. name: what `ck run` takes."""

    name: HubName
    commit: str
    path: Path
    n_bytes: int
    is_folder: bool


def cached_models() -> Iterator[CachedModel]:
    """The models in the cache, by repository and commit."""
    for repository in cached_repositories():
        for commit, revision in repository.commits().items():
            yield from _models_of(repository, commit, None if revision == DEFAULT_REVISION else revision)


def _models_of(repository: CachedRepository, commit: str, revision: str | None) -> Iterator[CachedModel]:
    files = repository.files(commit)
    names = [HubName(repository.repo, revision, file) for file in whole_models(file.name for file in files)]
    for name in [*names, HubName(repository.repo, revision)]:
        with suppress(CkError):
            choice = choose_model(name, files)
            if (choice.main is None) == (name.file is None):
                root = repository.snapshot(commit)
                path = root if choice.main is None else root / choice.main
                size = sum(file.n_bytes for file in choice.files)
                yield CachedModel(name, commit, path, size, choice.main is None)


def damaged_blobs(repository: CachedRepository) -> tuple[int, list[Path]]:
    """How many contents of a repository can be checked, and those that are not what their names say."""
    blobs = [path for path in sorted((repository.path / "blobs").glob("*")) if is_digest(path.name)]
    return len(blobs), [path for path in blobs if not path.is_file() or not has_digest(path, path.name)]


def partial_downloads() -> list[Path]:
    """Beginnings of files that ck fetched of any repository, and that no process is at work on."""
    return [path for repository in cached_repositories() for path in repository.parts()]


def repository_bytes(repository: CachedRepository) -> int:
    """Bytes of its contents, whole and begun."""
    return tree_bytes(repository.path / "blobs")


def remove_repository(repository: CachedRepository) -> None:
    """Delete what the cache has of a repository, for all tools, and what ck keeps of it."""
    for path in (
        repository.path,
        repository.locks,
        models_dir() / repository.repo.replace("/", "--"),
    ):
        shutil.rmtree(path, ignore_errors=True)
