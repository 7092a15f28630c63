"""`ck cache ls|verify|prune|rm`: what ck keeps on disk, and what the Hugging Face cache has of models."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from ck.cli.options import json_option

# Directories of the cache by name, and what deleting them costs.
KINDS = {"models": "are fetched again when named", "programs": "are compiled again, in seconds"}
# Beginnings of files in the Hugging Face cache.
PARTIAL = "partial"
HUB = "hub"

# Small directories that only say where other entries are.
INDICES = {"front"}


@dataclass(frozen=True)
class Entry:
    """Something in a cache, by the name that `rm` takes."""

    kind: str
    name: str
    n_bytes: int
    remove: Callable[[], object]


@click.group()
def command() -> None:
    """List, check or delete what ck keeps on disk: models and compiled programs.

    Models of the hub lie in the Hugging Face cache, which other tools use as well.
    """


@command.command("ls")
@json_option
def list_cache(as_json: bool) -> None:
    """List what is in the caches, with sizes."""
    from ck.cli.output import mebibytes, write_json, write_table
    from ck.runtime.hub_cache import hub_cache_dir
    from ck.runtime.paths import cache_root

    root, kept = cache_root(), list(_entries())
    size = sum(entry.n_bytes for entry in kept)
    if as_json:
        found = [{"kind": e.kind, "name": e.name, "n_bytes": e.n_bytes} for e in kept]
        write_json({"root": str(root), "hub": str(hub_cache_dir()), "entries": found, "n_bytes": size})
        return
    body = [[entry.kind, entry.name, mebibytes(entry.n_bytes)] for entry in kept]
    write_table([["KIND", "NAME", "SIZE"], *body, ["all", str(root), mebibytes(size)]])


@command.command()
@json_option
def verify(as_json: bool) -> None:
    """Check what is in the caches against the hashes it came with. Exit code 3 when something is damaged.

    Every byte of every model is read. `ck cache rm` deletes what is damaged; it is fetched or compiled again
    when it is next named.
    """
    from ck.cli.output import printable, write_json
    from ck.errors import MalformedError

    checked, damaged = 0, list[str]()
    for count, bad in (_verify_models(), _verify_programs(), *_verify_hub()):
        checked += count
        damaged += map(str, bad)
    if as_json:
        write_json({"checked": checked, "damaged": damaged})
    else:
        for path in damaged:
            click.echo(f"damaged: {printable(path)}")
        click.echo(f"{checked} checked, {len(damaged)} damaged")
    if damaged:
        raise MalformedError(
            f"{printable(damaged[0])}: must have the hash it came with, it has not; see: ck cache rm --help"
        )


@command.command()
@click.argument("kinds", nargs=-1, type=click.Choice([*KINDS, PARTIAL]))
@click.option("--dry-run", is_flag=True, help="Only print what would go.")
@json_option
def prune(kinds: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Delete compiled programs, or the KINDS named. They are made again when needed.

    models are those in ck's own cache, partial the beginnings of files that a fetch from the hub left, and
    would go on from. What another process is making or fetching stays, what a killed one left goes.
    """
    from ck.cli.output import mebibytes, write_json
    from ck.runtime.hub_models import partial_downloads
    from ck.runtime.paths import cache_root, tree_bytes

    chosen, root = kinds or ("programs",), cache_root()
    paths = [entry for kind in chosen if kind in KINDS for entry in entries(root / kind)]
    gone = [(path, tree_bytes(path)) for path in paths + (partial_downloads() if PARTIAL in chosen else [])]
    for path, _ in gone:
        if not dry_run:
            _delete(path)
    size = sum(n_bytes for _, n_bytes in gone)
    if as_json:
        write_json({"deleted": [str(path) for path, _ in gone], "n_bytes": size, "dry_run": dry_run})
    else:
        click.echo(f"{'would delete' if dry_run else 'deleted'} {len(gone)} entries, {mebibytes(size)}")


@command.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--dry-run", is_flag=True, help="Only print what would go.")
@json_option
def remove(names: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Delete entries by the names that `ck cache ls` shows.

    A repository of the hub, ORG/NAME, goes from the Hugging Face cache: for other tools as well.
    """
    from ck.cli.output import mebibytes, write_json
    from ck.errors import UsageError

    known = list(_entries())
    for name in names:
        if name not in (entry.name for entry in known):
            raise UsageError(f"{name}: must be a name of an entry, there is none; see: ck cache ls")
    gone = [entry for entry in known if entry.name in names]
    for entry in gone:
        if not dry_run:
            entry.remove()
    size = sum(entry.n_bytes for entry in gone)
    if as_json:
        write_json({"deleted": [entry.name for entry in gone], "n_bytes": size, "dry_run": dry_run})
    else:
        click.echo(f"{'would delete' if dry_run else 'deleted'} {len(gone)} entries, {mebibytes(size)}")


def entries(directory: Path) -> list[Path]:
    """What lies in `directory`, by name, and no process is at work on; nothing when there is none."""
    from ck.runtime.paths import is_at_work

    found = sorted(directory.iterdir()) if directory.is_dir() else []
    return [path for path in found if not is_at_work(path)]


def _entries() -> Iterator[Entry]:
    from functools import partial

    from ck.runtime.hub_cache import cached_repositories
    from ck.runtime.hub_models import remove_repository, repository_bytes
    from ck.runtime.paths import cache_root, tree_bytes

    for kind in KINDS:
        for path in entries(cache_root() / kind):
            if path.name not in INDICES:
                yield Entry(kind, path.name, tree_bytes(path), partial(_delete, path))
    for found in cached_repositories():
        yield Entry(HUB, found.repo, repository_bytes(found), partial(remove_repository, found))


def _delete(path: Path) -> None:
    import errno
    import shutil

    # Another process may take away here, and put anew.
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def _verify_models() -> tuple[int, list[Path]]:
    from ck.runtime.fetch import is_pulled, model_path
    from ck.runtime.hub_cache import has_digest
    from ck.runtime.known_models import known_models

    there = [model for model in known_models().values() if model_path(model).is_file()]
    bad = [m for m in there if not is_pulled(m) or not has_digest(model_path(m), m.sha256)]
    return len(there), [model_path(model) for model in bad]


def _verify_programs() -> tuple[int, list[Path]]:
    from ck.runtime.paths import cache_root
    from ck.runtime.store import load

    found = [path for path in entries(cache_root() / "programs") if (path / "run.json").exists()]
    return len(found), [path for path in found if load(path) is None]


def _verify_hub() -> Iterator[tuple[int, list[Path]]]:
    from ck.runtime.hub_cache import cached_repositories
    from ck.runtime.hub_models import damaged_blobs

    return (damaged_blobs(repository) for repository in cached_repositories())
