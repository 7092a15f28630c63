"""`ck regression training|inference`: every family against transformers and against itself, as one table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ck.cli.options import json_option

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--fast/--full", "is_fast", default=True, help="Small models, or every size, length and backend."
    ),
    click.option("--families", metavar="A,B", help="Some of the templates. Default: all."),
    click.option("--stop-on-fail", is_flag=True, help="Leave out what comes after the first failure."),
    click.option(
        "-o",
        "--out",
        "folder",
        type=click.Path(path_type=Path),
        default="build/regression",
        help="The folder of the two files.",
    ),
    json_option,
)


def matrix_options(function: F) -> F:
    """What both matrices take."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Check every family: one table a run, families and templates by checks.

    A check passes, fails, or is null where it cannot be made, with the reason. The table is printed and
    written as JSON and as Markdown with every figure; the exit code is 5 when a check fails. The checks need
    transformers: pip install 'ck-engine[train]'
    """


@command.command()
@matrix_options
def training(is_fast: bool, families: str | None, stop_on_fail: bool, folder: Path, as_json: bool) -> None:
    """Gradients, the canary and step parity against PyTorch; replay, resume, backends, overfit, export.

    --full takes rows of 1, 63, 64, 65 and 300 tokens in odd sizes too, by both backends, and the canary's 200
    steps.
    """
    _run("training", is_fast, families, stop_on_fail, folder, as_json)


@command.command()
@matrix_options
def inference(is_fast: bool, families: str | None, stop_on_fail: bool, folder: Path, as_json: bool) -> None:
    """Logits and greedy ids against transformers; saved states, threads, backends and folders bit for bit.

    --full takes 600 tokens in odd sizes.
    """
    _run("inference", is_fast, families, stop_on_fail, folder, as_json)


def _run(
    kind: str, is_fast: bool, families: str | None, stop_on_fail: bool, folder: Path, as_json: bool
) -> None:
    from ck.cli.output import write_json, write_table
    from ck.cli.progress import Status
    from ck.regression.matrix import chosen, run_matrix
    from ck.regression.report import make_folder, summary, to_json, write

    names = [name.strip() for name in families.split(",")] if families is not None else []
    templates = chosen(names)
    make_folder(folder)
    with Status(f"regression {kind}") as status:
        matrix = run_matrix(kind, "fast" if is_fast else "full", templates, status.show, stop_on_fail)
    written = write(matrix, folder)
    if as_json:
        fields = to_json(matrix)
        fields.pop("schema_version")
        write_json(fields)
    else:
        write_table(summary(matrix))
        for template, check, figure in matrix.failures:
            click.echo(f"FAIL {template}, {check}: {figure.name}, {figure.where or figure.value}")
        click.echo(f"written: {', '.join(map(str, written))}")
    matrix.require()
