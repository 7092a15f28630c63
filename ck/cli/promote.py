"""`ck promote RUN`: make a checkpoint the model that `ck run RUN` talks to."""

import click

from ck.cli.options import json_option


@click.command()
@click.argument("run")
@click.option("--step", "which", default="latest", help="latest, best, or the number of a checkpoint.")
@click.option("--dry-run", is_flag=True, help="Say what would be promoted, write nothing.")
@click.option("--list", "only_list", is_flag=True, help="List the checkpoints.")
@json_option
def command(run: str, which: str, dry_run: bool, only_list: bool, as_json: bool) -> None:
    """Write a checkpoint of training run RUN as its model.gguf (f32), whole or not at all."""
    from ck.cli.output import write_json
    from ck.train.promotion import choose, promote

    if only_list:
        _list(run, as_json)
        return
    say = _to_stderr
    step = choose(run, which, say)
    path = None if dry_run else promote(run, step, say)
    if as_json:
        write_json({"run": run, "step": step, "path": None if path is None else str(path)})
    elif path is None:
        click.echo(f"{run}: step {step} would be promoted")
    else:
        click.echo(f"{path}: step {step}; talk to it with: ck run {run}")


def _list(run: str, as_json: bool) -> None:
    from dataclasses import asdict

    from ck.cli.output import write_json, write_table
    from ck.train.promotion import candidates

    found = candidates(run)
    if as_json:
        write_json({"run": run, "checkpoints": [asdict(each) for each in found]})
        return
    rows = [["step", "dev loss", ""]]
    for each in found:
        marks = (
            ("latest", each.is_latest),
            ("best", each.is_best),
            ("promoted", each.is_promoted),
            ("damaged", each.damage is not None),
        )
        if each.damage is not None:
            _to_stderr(f"step {each.step} is damaged: {each.damage}")
        loss = "" if each.dev_loss is None else f"{each.dev_loss:.4f}"
        rows.append([str(each.step), loss, ", ".join(name for name, holds in marks if holds)])
    write_table(rows)


def _to_stderr(text: str) -> None:
    click.echo(text, err=True)
