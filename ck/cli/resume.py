"""`ck resume RUN`: go on with a training run from its newest checkpoint that verifies."""

from typing import Any

import click

from ck.cli.options import json_option
from ck.cli.training import RESUMABLE, Live, config_flags, report


@click.command()
@click.argument("run")
@click.option("--step", type=click.IntRange(0), help="Go on from this checkpoint; later ones are given up.")
@config_flags(*RESUMABLE)
@json_option
def command(run: str, step: int | None, sets: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Go on with training run RUN, a name or a directory, bit for bit as if it had never stopped.

    Checkpoints that do not verify are skipped, each with a line that says why.
    """
    from ck.train.runs import resume

    given = {key: value for key, value in flags.items() if value is not None}
    with Live() as live:
        result = resume(run, live, step=step, flags=given, sets=sets)
    report(result, run, as_json)
