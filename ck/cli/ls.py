"""`ck ls`: the models ck knows by name, and whether they are here."""

import click

from ck.cli.options import json_option


@click.command()
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print only the names of models that are here.")
def command(as_json: bool, quiet: bool) -> None:
    """List the models ck knows by name: size, whether the file is here, what it is."""
    from ck.cli.output import mebibytes, write_json, write_table
    from ck.runtime.fetch import is_pulled, model_path
    from ck.runtime.known_models import KnownModel, known_models

    def path_of(model: KnownModel) -> str:
        return str(model_path(model))

    models = [(model, is_pulled(model)) for model in known_models().values()]
    if as_json:
        rows = [
            {"name": m.name, "about": m.about, "n_bytes": m.n_bytes, "path": path_of(m) if here else None}
            for m, here in models
        ]
        write_json({"models": rows})
    elif quiet:
        for model, here in models:
            if here:
                click.echo(model.name)
    else:
        body = [[m.name, mebibytes(m.n_bytes), "yes" if here else "no", m.about] for m, here in models]
        write_table([["NAME", "SIZE", "HERE", "WHAT"], *body])
