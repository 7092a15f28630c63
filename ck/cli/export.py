"""`ck export MODEL --to hf|gguf[:TYPE] -o OUT`: a model as files that transformers or llama.cpp load."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ck.cli.options import find_model, json_option, model_argument

if TYPE_CHECKING:
    from ck.train.export.source import ExportSource

HUGGINGFACE, GGUF = "hf", "gguf"


@click.command()
@model_argument
@click.option(
    "--to", required=True, metavar="hf|gguf[:TYPE]", help="A folder for transformers, or one GGUF file."
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder or the file."
)
@click.option("--step", type=click.IntRange(min=0), help="Of a run: the checkpoint. Default: the newest.")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@json_option
def command(model: str, to: str, output: Path, step: int | None, force: bool, as_json: bool) -> None:
    """Write MODEL, a training run or a GGUF file, in a format that other programs load.

    hf is a folder with config.json, model.safetensors in f32 and the tokenizer. gguf is one file whose
    matrices are stored as TYPE: f32 (when not given), f16, bf16, q8_0, q5_0 or q4_1.
    """
    from ck.cli.output import mebibytes, write_json

    storage = _storage(to)
    source = _source(model, step)
    if storage is None:
        from ck.train.export.huggingface import export_huggingface

        export_huggingface(
            output, source.hp, source.weights, source.vocabulary, source.tokenizer_json, force=force
        )
    else:
        from ck.train.export.gguf_file import export_gguf

        export_gguf(
            output, source.hp, source.weights, source.vocabulary, storage, name=source.name, force=force
        )
    files = sorted(output.iterdir()) if output.is_dir() else [output]
    n_bytes = sum(file.stat().st_size for file in files)
    if as_json:
        write_json(
            {"model": source.name, "step": source.step, "to": to, "path": str(output), "n_bytes": n_bytes}
        )
    else:
        of = source.name if source.step is None else f"{source.name} at step {source.step}"
        if source.promoted not in (None, source.step):
            of += f", the promoted model is step {source.promoted}"
        click.echo(f"{output}: {of}, {mebibytes(n_bytes)}")


def _storage(to: str) -> str | None:
    """The storage type that `--to` asks for; None for a folder."""
    from ck.errors import UsageError
    from ck.train.export.gguf_file import STORAGE_TYPES

    kind, colon, storage = to.lower().partition(":")
    if kind == HUGGINGFACE and not colon:
        return None
    known = ", ".join(STORAGE_TYPES)
    if kind != GGUF:
        raise UsageError(
            f"--to: must be {HUGGINGFACE}, {GGUF} or {GGUF}:TYPE with TYPE of {known}, found {to}"
        )
    if colon and storage not in STORAGE_TYPES:
        raise UsageError(f"--to: the type must be one of {known}, found {to}")
    return storage or "f32"


def _source(model: str, step: int | None) -> "ExportSource":
    """The run or the model file that `model` means."""
    from ck.errors import UnsupportedError, UsageError
    from ck.train.export.source import find_run, source_of_gguf, source_of_run

    run = find_run(model)
    if run is not None:
        return source_of_run(run, step, lambda line: click.echo(f"{model}: {line}", err=True))
    path = find_model(model)
    if path.is_dir():
        raise UnsupportedError(f"{model}: must be a training run or a GGUF file, found a model folder")
    if step is not None:
        raise UsageError(f"--step: needs a training run, {model} is a model file")
    return source_of_gguf(path)
