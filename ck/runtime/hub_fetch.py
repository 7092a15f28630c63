"""`fetch`: a model or an adapter of the hub, out of the cache or into it.

What a revision is, is asked of the hub at each call, but of a whole commit that is there already; where the
hub gives no answer, what it was last stands in, with a CkWarning. Under HF_HUB_OFFLINE nothing is asked, and
no socket opened. A file is hashed before it gets its name in the cache; one that another tool put there is
hashed once. A fetch that ends in the middle, by whatever, is continued by the next. The lock on a blob, which
other tools take as well, makes a second process wait and then find the file.
"""

import os
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ck.errors import (
    CkError,
    CkWarning,
    ConflictError,
    MalformedError,
    NetworkError,
    ResourceError,
    UsageError,
)
from ck.files import size_text
from ck.runtime.fetch import Progress, silent
from ck.runtime.hub_cache import CachedRepository, has_digest, hub_cache_dir, is_commit, writing
from ck.runtime.hub_client import HubClient, Listing, offline
from ck.runtime.hub_files import Choice, Choose, HubFile, choose_model
from ck.runtime.hub_name import HubName
from ck.runtime.hub_record import HubRecord, is_verified, read_record, write_record
from ck.runtime.paths import (
    check_makeable,
    check_private_dir,
    models_dir,
    models_path,
    nearest,
    sync_directory,
)

# What a file system wants beyond the files: directories, journals, run.json.
_SPARE_BYTES = 16 << 20


@dataclass(frozen=True)
class FetchPlan:
    """What a name means now, and what of it is to be fetched, by `client`: files, and bytes of them all."""

    commit: str
    choice: Choice
    missing: tuple[HubFile, ...]
    n_bytes: int
    client: HubClient | None


def fetch(
    name: HubName, progress: Progress = silent, locked: bool = False, choose: Choose = choose_model
) -> Path:
    """The path of what `name` means: a GGUF file, of several parts the first, or a folder.

    `locked`: only the commit that was fetched last will do. Raises NetworkError when the hub does not have
    it, does not give it, or gives something else; ConflictError when `locked` and the revision has moved;
    ResourceError without disk space; MachineError when huggingface_hub or the cache cannot be used.
    """
    models_dir()
    kept = read_record(name)
    plan = _plan(name, kept, locked, choose)
    if plan.client is not None and plan.missing:
        _fetch_all(plan.client, CachedRepository(name.repo), plan.commit, plan.missing, progress)
    return _placed(name, plan.commit, plan.choice, kept)


def plan_fetch(name: HubName, locked: bool = False, choose: Choose = choose_model) -> FetchPlan:
    """What `fetch` would do; nothing is written. Raises as it does before a file is asked for."""
    check_private_dir(models_path())
    plan = _plan(name, read_record(name), locked, choose)
    if plan.missing:
        repository = CachedRepository(name.repo)
        with writing():
            check_makeable(repository.path / "blobs")
        _require_space(name, plan.n_bytes, repository)
    return plan


def _plan(name: HubName, kept: HubRecord | None, locked: bool, choose: Choose) -> FetchPlan:
    if locked and kept is None:
        raise UsageError(f"{name}: with --locked it must have been fetched before; run: ck pull {name}")
    pinned = kept.commit if kept is not None and locked else None
    listing = _cached(name, pinned, kept, choose)
    client = None
    if listing is None:
        client = HubClient(name)
        listing = _listed(client, pinned, kept, choose)
    choice = choose(name, listing.files)
    missing = tuple(file for file in choice.files if not _is_there(name, file, kept))
    if missing and offline():
        raise _damaged(name, missing[0])
    client = client or (HubClient(name) if missing else None)
    return FetchPlan(listing.commit, choice, missing, _bytes_to_fetch(name, missing), client)


def _bytes_to_fetch(name: HubName, missing: Iterable[HubFile]) -> int:
    """Bytes of files, without what an earlier fetch left of them."""
    parts = [(file, CachedRepository(name.repo).part(file.digest)) for file in missing]
    there = sum(part.stat().st_size for _, part in parts if part.is_file())
    return sum(file.n_bytes for file, _ in parts) - there


def _cached(name: HubName, pinned: str | None, kept: HubRecord | None, choose: Choose) -> Listing | None:
    """What the cache has of the revision, where the hub must not be asked, or has no more to say."""
    commit = pinned or CachedRepository(name.repo).commit_of(name.ref)
    if offline():
        if commit is None:
            raise _not_here(name)
        listing = _in_cache(name, commit, kept)
        if not _is_whole(name, listing, kept, choose):
            raise _not_here(name)
        return listing
    # Where no file is named, what the cache has may not be what the name means of all that there is.
    is_known = name.file is not None or (kept is not None and kept.commit == commit)
    if commit is None or not is_commit(name.ref) or not is_known:
        return None
    listing = _in_cache(name, commit, kept)
    return listing if _is_whole(name, listing, kept, choose) else None


def _listed(client: HubClient, pinned: str | None, kept: HubRecord | None, choose: Choose) -> Listing:
    """What the hub says of the revision, or the cache when the hub says nothing."""
    name = client.name
    commit = pinned or CachedRepository(name.repo).commit_of(name.ref)
    try:
        listing = client.listing()
    except NetworkError as error:
        if commit is None or not client.is_silence(error):
            raise
        listing = _in_cache(name, commit, kept)
        if not _is_whole(name, listing, kept, choose):
            raise
        warnings.warn(CkWarning(f"{error}; taking commit {commit[:12]} from the cache"), stacklevel=2)
        return listing
    if pinned is not None and listing.commit != pinned:
        raise ConflictError(
            f"{name}: with --locked {name.ref} must be {pinned[:12]}, it is commit {listing.commit[:12]}; "
            f"to take that run: ck pull {name}"
        )
    return listing


def _in_cache(name: HubName, commit: str, kept: HubRecord | None) -> Listing:
    """What the cache has of a commit; of one that was fetched under this name, what that was."""
    files = tuple(CachedRepository(name.repo).files(commit))
    if kept is not None and kept.commit == commit:
        files = tuple(file for file in files if file.name in kept.files)
    return Listing(commit, files)


def _is_whole(name: HubName, listing: Listing, kept: HubRecord | None, choose: Choose) -> bool:
    """Whether a listing of the cache has all that `name` means."""
    there = {file.name for file in listing.files}
    if kept is not None and kept.commit == listing.commit and not kept.files.keys() <= there:
        return False
    try:
        choose(name, listing.files)
    except CkError:
        return False
    return True


def _is_there(name: HubName, file: HubFile, kept: HubRecord | None) -> bool:
    """Whether the cache has a file, with the contents it should have."""
    if not file.digest:
        # The cache has no links: the file itself lies under its name, and nothing says what it should be.
        return True
    blob = CachedRepository(name.repo).blob(file.digest)
    if not blob.is_file() or blob.stat().st_size != file.n_bytes:
        return False
    return is_verified(kept, file, blob) or has_digest(blob, file.digest)


def _fetch_all(
    client: HubClient, repository: CachedRepository, commit: str, files: Iterable[HubFile], progress: Progress
) -> None:
    files = list(files)
    with writing():
        (repository.path / "blobs").mkdir(parents=True, exist_ok=True)
        _require_space(client.name, _bytes_to_fetch(client.name, files), repository)
        total, before = sum(file.n_bytes for file in files), 0
        for file in files:
            _fetch_one(client, repository, commit, file, _shifted(progress, before, total))
            before += file.n_bytes
            progress(before, total)


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    highest = before

    def show(done: int, _: int) -> None:
        # A file that has to begin anew takes nothing back.
        nonlocal highest
        highest = max(highest, before + done)
        progress(highest, total)

    return show


def _require_space(name: HubName, n_bytes: int, repository: CachedRepository) -> None:
    need, free = n_bytes + _SPARE_BYTES, shutil.disk_usage(nearest(repository.path / "blobs")).free
    if free < need:
        raise ResourceError(
            f"{name}: needs {size_text(need)} free in {hub_cache_dir()}, found {size_text(free)}; "
            "free some or set HF_HUB_CACHE to another disk"
        )


def _fetch_one(
    client: HubClient, repository: CachedRepository, commit: str, file: HubFile, progress: Progress
) -> None:
    blob, part = repository.blob(file.digest), repository.part(file.digest)
    with repository.locked(file.digest):
        # Who held the lock before may have fetched it.
        if blob.is_file() and blob.stat().st_size == file.n_bytes and has_digest(blob, file.digest):
            return
        continued = part.is_file() and part.stat().st_size > 0
        while not _download(client, commit, file, part, progress):
            part.unlink()
            if not continued:
                raise client.wrong_contents(file)
            # What was kept may not have been the beginning of this file.
            continued = False
        os.replace(part, blob)
        sync_directory(blob.parent)


def _download(client: HubClient, commit: str, file: HubFile, part: Path, progress: Progress) -> bool:
    """Complete `part`; whether it is the file then."""
    with part.open("ab", buffering=0) as out:
        client.fetch(commit, file, out, lambda size: progress(size, file.n_bytes))
        os.fsync(out.fileno())
    return has_digest(part, file.digest)


def _placed(name: HubName, commit: str, choice: Choice, kept: HubRecord | None) -> Path:
    """The path of a model all of whose blobs are there, by the names it has in its commit."""
    repository = CachedRepository(name.repo)
    with writing():
        for file in choice.files:
            if file.digest:
                repository.link(commit, file)
        if not offline():
            repository.set_commit(name.ref, commit)
    snapshot = repository.snapshot(commit)
    path = snapshot if choice.main is None else snapshot / choice.main
    write_record(name, commit, choice, path, kept)
    return path


def _not_here(name: HubName) -> NetworkError:
    return NetworkError(
        f"{name}: must be in {hub_cache_dir()} when HF_HUB_OFFLINE is set, it is not, or not whole; unset "
        f"that and run: ck pull {name}"
    )


def _damaged(name: HubName, file: HubFile) -> MalformedError:
    return MalformedError(
        f"{name}: {file.name} must have digest {file.digest[:16]}.., in the cache it has another; unset "
        f"HF_HUB_OFFLINE and run: ck pull {name}"
    )
