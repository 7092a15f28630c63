"""`ck ls`: the models that can be named: those ck knows, and those in the Hugging Face cache."""

from dataclasses import dataclass

import click

from ck.cli.options import json_option


@dataclass(frozen=True)
class Row:
    """A model. path: None when it is not here."""

    name: str
    about: str
    n_bytes: int
    path: str | None
    commit: str | None = None


@click.command()
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print only the names of models that are here.")
def command(as_json: bool, quiet: bool) -> None:
    """List models by the names that other verbs take: size, whether the file is here, what it is.

    First come those that ck knows, then all that lie whole in the Hugging Face cache, whoever fetched them.
    """
    from ck.cli.output import mebibytes, write_json, write_table

    rows = [*_known(), *_cached()]
    if as_json:
        write_json({"models": [vars(row) for row in rows]})
    elif quiet:
        for row in rows:
            if row.path is not None:
                click.echo(row.name)
    else:
        body = [[r.name, mebibytes(r.n_bytes), "yes" if r.path else "no", r.about] for r in rows]
        write_table([["NAME", "SIZE", "HERE", "WHAT"], *body])


def _known() -> list[Row]:
    from ck.runtime.fetch import is_pulled, model_path
    from ck.runtime.known_models import known_models

    return [
        Row(m.name, m.about, m.n_bytes, str(model_path(m)) if is_pulled(m) else None)
        for m in known_models().values()
    ]


def _cached() -> list[Row]:
    from ck.cli.output import printable
    from ck.runtime.hub_models import cached_models

    return [
        Row(
            printable(str(model.name)),
            f"{'model folder' if model.is_folder else 'GGUF file'} of the hub, commit {model.commit[:12]}",
            model.n_bytes,
            str(model.path),
            model.commit,
        )
        for model in cached_models()
    ]
