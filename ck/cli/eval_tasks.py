"""`ck eval tasks MODEL`: published tasks, and one's own, through lm-evaluation-harness."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from ck.cli.options import (
    ProgramOptions,
    compile_model,
    json_option,
    model_argument,
    program_options,
    take,
)


@click.command()
@model_argument
@click.option("--tasks", "names", required=True, metavar="A,B", help="The tasks' names in the harness.")
@click.option(
    "--include-path",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with tasks of one's own, as YAML.",
)
@click.option("--num-fewshot", "n_shots", type=click.IntRange(0), help="Examples first. Default: the task's.")
@click.option("--limit", type=click.IntRange(1), help="Questions of each task at most. Default: all.")
@click.option("--apply-chat-template", "chat", is_flag=True, help="Wrap questions in the model's template.")
@program_options
@click.option("--adapter", help="A folder of PEFT's, or its name on the hub, merged on load.")
@json_option
def tasks(
    model: str,
    names: str,
    folder: Path | None,
    n_shots: int | None,
    limit: int | None,
    chat: bool,
    adapter: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Scores of MODEL on tasks of lm-evaluation-harness.

    It needs the package: pip install 'ck-engine[tasks]'. The harness fetches the data of its tasks; those of
    --include-path may have theirs beside them. Results are the harness's table, or its numbers as JSON.
    """
    from ck.cli.output import write_json
    from ck.evaluate.harness import evaluate_tasks, require_harness, table

    require_harness()
    compiled = compile_model(model, take(ProgramOptions, given), adapter=adapter)
    wanted = [name.strip() for name in names.split(",")]
    # What the harness prints on its way is no result.
    with redirect_stdout(sys.stderr):
        results = evaluate_tasks(compiled, wanted, folder, n_shots, limit, chat, _progress())
    if as_json:
        kept = ("results", "groups", "versions", "n-shot", "higher_is_better", "n-samples")
        write_json({"model": model, **{name: results[name] for name in kept if name in results}})
    else:
        click.echo(table(results))


def _progress() -> Callable[[str, int, int], None]:
    """Shows how many requests are answered: on one line of a terminal, else every hundredth and the last."""

    def show(what: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "" if done < total else "\n"
            print(f"\r\x1b[K{what}: {done} of {total}", end=end, file=sys.stderr, flush=True)
        elif done % 100 == 0 or done == total:
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    return show
