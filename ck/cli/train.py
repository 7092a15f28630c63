"""`ck train`: a small model from text, with a live line, metrics and checkpoints."""

from pathlib import Path
from typing import Any

import click

from ck.cli.options import json_option
from ck.cli.training import Live, config_flags, report


@click.command()
@click.option("--run", "name", required=True, help="The run's name, or a path; see ck resume.")
@click.option("--data", multiple=True, help="A file or folder of text; may be given again.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file with any of the keys.")
@click.option("--preset", help="Family and sizes by one name, for the keys below; a wrong name lists them.")
@click.option("--from", "base", metavar="MODEL", help="Fine-tune this: a file, folder, run or name.")
@click.option(
    "--lora",
    metavar="r=8,alpha=16,targets=q,v",
    help="Train adapters of rank r beside the products named, all unless told; the model stays as it is.",
)
@config_flags()
@json_option
def command(
    name: str, data: tuple[str, ...], config: Path | None, sets: tuple[str, ...], as_json: bool, **flags: Any
) -> None:
    """Train a new model of family --template on the text in --data, or go on with the model --from.

    A run from a model takes its sizes, weights, tokenizer and chat template. With --lora its weights stay as
    they are, and the run trains and keeps adapters alone.

    The run's directory gets run.json, config.toml, tokenizer.json, the token shards, the IR and C of the
    program, metrics.jsonl with a line a step, TensorBoard event files and checkpoints. Ctrl-C saves and
    leaves; ck resume goes on. A value comes from the defaults, then --preset, then --config, then flags, then
    --set; every mistake is told at once.
    """
    from ck.train.config import load_config
    from ck.train.runs import start

    given = {key: value for key, value in flags.items() if value is not None}
    loaded = load_config(config, given | ({"data": data} if data else {}), sets)
    with Live() as live:
        result = start(name, loaded, live)
    report(result, name, as_json)
