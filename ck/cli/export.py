"""`ck export MODEL --to hf|gguf[:TYPE] -o OUT`: a model as files that transformers or llama.cpp load."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ck.cli.options import find_model, json_option, model_argument

if TYPE_CHECKING:
    from ck.train.export.source import ExportSource

HUGGINGFACE, GGUF, PEFT = "hf", "gguf", "peft"


@click.command()
@model_argument
@click.option(
    "--to",
    required=True,
    metavar="hf|gguf[:TYPE]|peft",
    help="A folder for transformers, one GGUF file, or a run's adapter as PEFT has it.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder or the file."
)
@click.option("--step", type=click.IntRange(min=0), help="Of a run: the checkpoint. Default: the newest.")
@click.option(
    "--adapter", help="Put this adapter, a folder of PEFT's or its name on the hub, into the model."
)
@click.option("--unmerge", is_flag=True, help="Take the --adapter out of a model that has it.")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@json_option
def command(
    model: str,
    to: str,
    output: Path,
    step: int | None,
    adapter: str | None,
    unmerge: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write MODEL, a training run or a GGUF file, in a format that other programs load.

    hf is a folder with config.json, model.safetensors in f32 and the tokenizer. gguf is one file whose
    matrices are stored as TYPE: f32 (when not given), f16, bf16, q8_0, q6_k, q4_k, q4_0, q2_k, ..
    Of a run that trains adapters both have them merged into the weights; peft is the adapter alone.
    """
    from ck.cli.output import mebibytes, write_json

    kind, storage = _format(to)
    if unmerge and adapter is None:
        raise click.UsageError("--unmerge needs the --adapter to take out")
    source = _adapted(_source(model, step), adapter, unmerge)
    _write(source, kind, storage, output, force)
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


def _format(to: str) -> tuple[str, str]:
    """What `--to` asks for, and of GGUF the storage type."""
    from ck.errors import UsageError
    from ck.train.export.gguf_file import STORAGE_TYPES

    kind, colon, storage = to.lower().partition(":")
    if kind in (HUGGINGFACE, PEFT) and not colon:
        return kind, ""
    known = ", ".join(STORAGE_TYPES)
    if kind != GGUF:
        raise UsageError(
            f"--to: must be {HUGGINGFACE}, {PEFT}, {GGUF} or {GGUF}:TYPE with TYPE of {known}, found {to}"
        )
    if colon and storage not in STORAGE_TYPES:
        raise UsageError(f"--to: the type must be one of {known}, found {to}")
    return kind, storage or "f32"


def _write(source: "ExportSource", kind: str, storage: str, output: Path, force: bool) -> None:
    from ck.errors import UnsupportedError, UsageError

    hp, weights, vocabulary = source.hp, source.weights, source.vocabulary
    if kind == PEFT:
        from ck.train.export.peft import export_peft

        if source.adapters is None or source.tensors is None:
            raise UsageError(f"--to: peft needs a run that trains adapters, {source.name} has none")
        export_peft(output, hp, source.adapters, source.tensors, source.base, force=force)
    elif kind == HUGGINGFACE:
        from ck.train.export.huggingface import export_huggingface

        text, side = source.tokenizer_json, source.side
        export_huggingface(output, hp, weights, vocabulary, text, side=side, force=force)
    elif vocabulary is None:
        raise UnsupportedError(
            f"--to: gguf needs the vocabulary of a GGUF file, {source.name} began with a folder; take hf"
        )
    else:
        from ck.train.export.gguf_file import export_gguf

        export_gguf(output, hp, weights, vocabulary, storage, name=source.name, force=force)


def _adapted(source: "ExportSource", adapter: str | None, unmerge: bool) -> "ExportSource":
    """The model with the adapter in it, or taken out of it."""
    if adapter is None:
        return source
    from dataclasses import replace

    from ck.frontend.huggingface.peft import read_adapter
    from ck.frontend.template import template_from
    from ck.runtime.resolve import resolve_adapter
    from ck.train.export.source import MergedWeights

    found = read_adapter(resolve_adapter(adapter), source.hp, template_from(source.hp).shapes)
    sign = -1.0 if unmerge else 1.0
    return replace(source, weights=MergedWeights(source.weights, found.adapters, found.tensors, sign))


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
