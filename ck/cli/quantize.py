"""`ck quantize IN OUT --type TYPE`: a model file with its matrices in another storage type."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ck.cli.options import json_option, take

if TYPE_CHECKING:
    from ck.frontend.model import GgufModel
    from ck.frontend.quantize.importance import Importance
    from ck.frontend.quantize.mixes import Choice
    from ck.train.export.quantized_file import Plan


@click.command()
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT", required=False, type=click.Path(path_type=Path))
@click.option(
    "--type", "of", required=True, metavar="TYPE", help="Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, .. in any case."
)
@click.option("--imatrix", metavar="FILE", help="Weigh errors by this importance matrix; see: ck imatrix")
@click.option("--output-tensor-type", "head", metavar="TYPE", help="Store the head as this storage type.")
@click.option("--token-embedding-type", "embedding", metavar="TYPE", help="The same for the embedding.")
@click.option("--leave-output-tensor", "leave_head", is_flag=True, help="Leave a head of its own as it is.")
@click.option("--pure", is_flag=True, help="One storage type for all matrices, no mix.")
@click.option("--allow-requantize", "requantize", is_flag=True, help="Quantise what is quantised already.")
@click.option("--dry-run", is_flag=True, help="Say what the file would be or why not, and write none.")
@click.option("-t", "--threads", type=click.IntRange(1, 1024), help="Threads. Default: all allowed.")
@click.option("--force", is_flag=True, help="Replace a file at OUT.")
@json_option
def command(source: str, output: Path | None, of: str, as_json: bool, **given: Any) -> None:
    """Write IN, a GGUF file or a known name, to OUT with matrices stored as TYPE, as llama-quantize does.

    TYPE is one of Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1, Q4_0, IQ4_NL, IQ4_XS, Q3_K_L,
    Q3_K_M, Q3_K_S, Q2_K, F32, F16 and BF16; Q5_K, Q4_K and Q3_K are the mixes that end in _M. The file is
    llama-quantize's byte for byte: the head, some layers and rows that do not fit have other types than most
    matrices, unless it is --pure.
    """
    from ck.frontend.quantize.mixes import Choice, find_file_type
    from ck.train.export.quantized_file import check_output, plan_quantized

    if output is None and not given["dry_run"]:
        raise click.UsageError("missing argument OUT, the file to write")
    file_type = find_file_type(of)
    importance = _importance(given.pop("imatrix"))
    choice = _checked(take(Choice, given | {"weighted": importance is not None}))
    plan = plan_quantized(_open(source), file_type, choice, importance, requantize=given["requantize"])
    if output is not None and given["dry_run"]:
        check_output(plan, output, force=given["force"])
    elif output is not None:
        _write(plan, output, given["threads"], given["force"])
    if as_json:
        from ck.cli.output import write_json

        write_json(_facts(plan, None if given["dry_run"] else output))
    else:
        _say(plan, output, given["dry_run"])


def _importance(path: str | None) -> "Importance | None":
    from ck.frontend.quantize.importance import read_importance

    return None if path is None else read_importance(path)


def _checked(choice: "Choice") -> "Choice":
    """The choice with types in lower case. Raises UsageError for one that is no storage type."""
    from dataclasses import replace

    from ck.errors import UsageError
    from ck.frontend.quantize import STORED

    types = {"--output-tensor-type": choice.head, "--token-embedding-type": choice.embedding}
    for option, storage in types.items():
        if storage is not None and storage.lower() not in STORED:
            raise UsageError(f"{option}: must be one of {', '.join(STORED)}, found {storage}")
    head, embedding = (None if storage is None else storage.lower() for storage in types.values())
    return replace(choice, head=head, embedding=embedding)


def _open(source: str) -> "GgufModel":
    from ck.cli.options import find_model
    from ck.errors import UnsupportedError
    from ck.frontend.model import GgufModel

    path = find_model(source)
    if path.is_dir():
        raise UnsupportedError(f"{source}: must be a GGUF file, found a model folder; use: ck run --quantize")
    return GgufModel(path)


def _write(plan: "Plan", output: Path, threads: int | None, force: bool) -> None:
    from ck.cli.progress import Status
    from ck.runtime.library import thread_count
    from ck.train.export.quantized_file import write_quantized

    with Status(f"quantising {output.name}") as status:

        def show(done: int, total: int) -> None:
            status.show(f"quantising {output.name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

        write_quantized(plan, output, threads=thread_count(threads), force=force, progress=show)


def _facts(plan: "Plan", output: Path | None) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "model": plan.file.name,
        "type": plan.of.name,
        "path": None if output is None else str(output),
        "n_bytes": plan.n_bytes,
        "tensors": [
            {"name": each.name, "from": each.now, "to": each.then, "weighted": each.weights is not None}
            for each in plan.tensors
        ],
    }


def _say(plan: "Plan", output: Path | None, dry_run: bool) -> None:
    from collections import Counter

    from ck.cli.output import mebibytes, printable

    counts = Counter(tensor.then for tensor in plan.tensors)
    types = ", ".join(f"{count} {storage}" for storage, count in counts.most_common())
    what = f"{printable(plan.file.name)}: would be" if dry_run else f"{output}:"
    click.echo(f"{what} {plan.of.name}, {mebibytes(plan.n_bytes)}, {types}")
    weighted = sum(tensor.weights is not None for tensor in plan.tensors)
    changed = sum(tensor.now != tensor.then for tensor in plan.tensors)
    if weighted:
        click.echo(f"{weighted} of {changed} tensors by the importance matrix")
