"""`ck cache ls|prune`: what ck keeps on disk."""

from pathlib import Path

import click

from ck.cli.options import json_option

# Directories of the cache by name, and what deleting them costs.
KINDS = {"models": "are fetched again when named", "programs": "are compiled again, in seconds"}

# Small directories that only say where other entries are.
INDICES = {"front"}


@click.group()
def command() -> None:
    """List or prune what ck keeps on disk: pulled models and compiled programs."""


@command.command("ls")
@json_option
def list_cache(as_json: bool) -> None:
    """List what is in the cache, with sizes."""
    from ck.cli.output import mebibytes, write_json, write_table
    from ck.runtime.paths import cache_root

    root = cache_root()
    kept = [(kind, entry) for kind in KINDS for entry in entries(root / kind) if entry.name not in INDICES]
    rows = [(kind, entry.name, tree_bytes(entry)) for kind, entry in kept]
    if as_json:
        found = [{"kind": kind, "name": name, "n_bytes": size} for kind, name, size in rows]
        write_json({"root": str(root), "entries": found, "n_bytes": sum(size for _, _, size in rows)})
        return
    total = mebibytes(sum(size for _, _, size in rows))
    body = [[kind, name, mebibytes(size)] for kind, name, size in rows]
    write_table([["KIND", "NAME", "SIZE"], *body, ["all", str(root), total]])


@command.command()
@click.argument("kinds", nargs=-1, type=click.Choice(list(KINDS)))
@click.option("--dry-run", is_flag=True, help="Only print what would go.")
@json_option
def prune(kinds: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Delete compiled programs, or the KINDS named. They are made again when needed."""
    import shutil

    from ck.cli.output import mebibytes, write_json
    from ck.runtime.paths import cache_root

    root = cache_root()
    gone = [(entry, tree_bytes(entry)) for kind in kinds or ("programs",) for entry in entries(root / kind)]
    for entry, _ in gone:
        if not dry_run:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    size = sum(n_bytes for _, n_bytes in gone)
    if as_json:
        write_json({"deleted": [str(entry) for entry, _ in gone], "n_bytes": size, "dry_run": dry_run})
    else:
        click.echo(f"{'would delete' if dry_run else 'deleted'} {len(gone)} entries, {mebibytes(size)}")


def entries(directory: Path) -> list[Path]:
    """What lies in `directory`, by name; nothing when there is none."""
    return sorted(directory.iterdir()) if directory.is_dir() else []


def tree_bytes(path: Path) -> int:
    """Bytes of the files at and under `path`."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())
