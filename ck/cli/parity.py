"""`ck parity RUN`: compare a training run with PyTorch."""

import click

from ck.cli.options import json_option


@click.command()
@click.argument("run")
@click.option("--steps", type=click.IntRange(1), help="Steps to compare. Default: the run's, at most 200.")
@click.option("-t", "--threads", type=click.IntRange(1, 1024), help="Threads. Default: the run's.")
@click.option("--backend", type=click.Choice(["c", "llvm"]), help="What compiles. Default: the run's choice.")
@click.option("-o", "--output", help="Write the report there too; - is stdout.")
@json_option
def command(
    run: str, steps: int | None, threads: int | None, backend: str | None, output: str | None, as_json: bool
) -> None:
    """Train RUN's first weights on its batches again, in ck and in PyTorch beside it, and compare the two.

    Compared are the losses of every step, all gradients of step 1, parameters and optimizer states at the
    end, and single steps of PyTorch from ck's state. The report is reports/parity.json of the run. When
    something departs, the first op that does is named and the exit code is 5. PyTorch comes with:
    pip install 'ck-engine[train]'
    """
    import json

    from ck.cli.output import write_result, write_table
    from ck.cli.progress import Status
    from ck.train.parity.report import parity

    with Status(f"comparing {run} with PyTorch") as status:
        report = parity(run, status.show, steps=steps, threads=threads, backend=backend)
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n"
    if output is not None:
        write_result(text, output)
    if as_json:
        click.echo(text, nl=False)
    elif output != "-":
        write_table(report.rows())
        click.echo(f"report: {report.path}")
    report.require()
    if not as_json and output != "-":
        click.echo(report.summary())
