"""`ck imatrix MODEL -f TEXT -o FILE`: which columns of a model's matrices weigh most, for `ck quantize`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ck.cli.options import json_option, model_argument

if TYPE_CHECKING:
    from ck.evaluate.importance import Sums

DEFAULT_WINDOW = 512


@click.command()
@model_argument
@click.option("-f", "--file", required=True, help="The text; - is standard input.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write, GGUF."
)
@click.option("-c", "--ctx-size", type=click.IntRange(3), default=DEFAULT_WINDOW, help="Tokens of a window.")
@click.option("--chunks", type=click.IntRange(1), help="Windows at most. Default: all.")
@click.option("--dtype", type=click.Choice(["f32"], False), help="Dequantise all weights to this type.")
@click.option("-t", "--threads", type=click.IntRange(1, 1024), help="Threads. Default: all allowed.")
@click.option("--backend", type=click.Choice(["c", "llvm"]), help="What compiles. Default: as ck run.")
@click.option("--force", is_flag=True, help="Replace a file at the output.")
@json_option
def command(model: str, file: str, output: Path, force: bool, as_json: bool, **given: Any) -> None:
    """Measure what enters each matrix of MODEL's blocks on a text: an importance matrix.

    The text is read in windows as llama-imatrix reads it, and the file is one that it could have written:
    `ck quantize --imatrix` takes it, and so does llama-quantize.
    """
    from ck.cli.options import find_model
    from ck.cli.output import mebibytes, write_json
    from ck.train.export.checks import check_place, files_of
    from ck.train.export.importance_file import write_importance

    path = find_model(model)
    check_place(output, force=force, sources=(*files_of(path), Path(file)))
    sums = _measure(model, path, file, **given)
    write_importance(output, sums.squares, sums.n_chunks, sums.n_ctx, [file])
    n_bytes = output.stat().st_size
    if as_json:
        sizes = {"n_ctx": sums.n_ctx, "n_chunks": sums.n_chunks, "n_tokens": sums.n_tokens}
        write_json(
            {
                "model": model,
                "path": str(output),
                "n_bytes": n_bytes,
                "n_matrices": len(sums.squares),
                **sizes,
            }
        )
    else:
        click.echo(
            f"{output}: {len(sums.squares)} matrices on {sums.n_chunks} windows of {sums.n_ctx} tokens, "
            f"{mebibytes(n_bytes)}"
        )


def _measure(
    model: str,
    path: Path,
    file: str,
    ctx_size: int,
    chunks: int | None,
    dtype: str | None,
    threads: int | None,
    backend: str | None,
) -> "Sums":
    from ck.cli.progress import Status
    from ck.cli.texts import read_text, text_name, warn_of_length
    from ck.evaluate.importance import sums_of
    from ck.evaluate.windows import cut
    from ck.frontend.model import open_file
    from ck.runtime.activations import compile_activations

    text, source = read_text(file), open_file(path)
    windows = cut(source.tokenizer(), text, text_name(file), ctx_size, chunks)
    warn_of_length(model, source.hyperparameters().context_length, ctx_size)
    with Status(f"loading {model}") as status:
        program = compile_activations(
            source,
            ctx_size,
            dtype=dtype,
            threads=threads,
            backend=backend,
            progress=lambda stage: status.show(f"compiling {model}: {stage}"),
        )
        return sums_of(program, windows, lambda n, total: status.show(f"{file}: {n} of {total} windows"))
