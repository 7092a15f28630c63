"""`ck eval ppl|kld|tasks`: how good a model is, in figures that line up with llama-perplexity's."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ck.cli.eval_tasks import tasks
from ck.cli.options import ProgramOptions, compile_model, json_option, model_argument, take, window_options
from ck.cli.texts import read_text, text_name, warn_of_length

if TYPE_CHECKING:
    from ck.evaluate.base_file import BaseFile
    from ck.evaluate.divergence import Compared
    from ck.evaluate.estimate import Values
    from ck.evaluate.measure import Base
    from ck.evaluate.windows import Windows
    from ck.runtime.model import Model

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_WINDOW = 512
HEAD = ("chunk", "PPL", "ln(PPL(Q)/PPL(base))", "KL divergence", "Δp RMS", "Same top p")

_WINDOW = click.option(
    "-c",
    "--ctx-size",
    type=click.IntRange(3),
    help=f"Tokens of a window. Default: {DEFAULT_WINDOW}, or those of the file of --base.",
)
_CHUNKS = click.option("--chunks", type=click.IntRange(1), help="Windows at most. Default: all.")
_ADAPTER = click.option("--adapter", help="A folder of PEFT's, or its name on the hub, merged on load.")


@dataclass(frozen=True)
class Text:
    """What is read, in windows of `ctx_size` tokens, `chunks` of them at most; names are the flags'."""

    file: str | None
    chunks: int | None


@click.group()
def command() -> None:
    """Measure how good a model is: by a text, against another model, by tasks."""


@command.command()
@model_argument
@click.option("-f", "--file", required=True, help="The text; - is standard input.")
@_CHUNKS
@_WINDOW
@window_options
@_ADAPTER
@json_option
def ppl(model: str, adapter: str | None, as_json: bool, **given: Any) -> None:
    """Perplexity of MODEL on a text: how well it foretells each token, lower is better.

    Windows, the tokens that are scored and the uncertainty are llama-perplexity's. Each window's running
    figure goes to standard error.
    """
    options, text = take(ProgramOptions, given), take(Text, given)
    options = replace(options, ctx_size=options.ctx_size or DEFAULT_WINDOW)
    source = _read(text)
    compiled = _compile(model, options, adapter)
    _report_perplexity(compiled, model, _windows(compiled, source, text, options), as_json, None)


@command.command()
@model_argument
@click.option("--base", metavar="MODEL|FILE", help="What MODEL is compared with.")
@click.option(
    "--save-base", type=click.Path(path_type=Path), help="Write the base's log probabilities to this file."
)
@click.option("-f", "--file", help="The text; - is standard input. A file of --base brings its own.")
@_CHUNKS
@_WINDOW
@window_options
@click.option(
    "--base-dtype", type=click.Choice(["f32"], False), help="Dequantise all weights of the base to this."
)
@_ADAPTER
@json_option
def kld(
    model: str,
    base: str | None,
    save_base: Path | None,
    base_dtype: str | None,
    adapter: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Divergence of MODEL from a base on a text, with llama-perplexity's statistics, lower is better.

    The base is another model, which runs beside MODEL, or a file that --save-base or llama-perplexity's
    --kl-divergence-base has written. Without --base, MODEL is the base: its log probabilities are saved.
    --dtype, --activations, --quantize and --adapter are MODEL's, the other options both models'.
    """
    from ck.evaluate.base_file import BaseFile, is_base_file

    options, text = take(ProgramOptions, given), take(Text, given)
    if base is None:
        if base_dtype is not None:
            raise click.UsageError("--base-dtype needs --base; the type of MODEL is --dtype")
        _save(model, options, text, adapter, save_base, as_json)
    elif is_base_file(Path(base)):
        if save_base is not None or text.file is not None or base_dtype is not None:
            raise click.UsageError(
                f"{base} holds a text and log probabilities: no -f, --save-base, --base-dtype"
            )
        _against_file(model, BaseFile(Path(base)), options, text, adapter, as_json)
    else:
        theirs = replace(options, dtype=base_dtype, quantize=None, activations="q16")
        _against_model(model, base, (options, theirs), text, adapter, save_base, as_json)


def _save(
    model: str, options: ProgramOptions, text: Text, adapter: str | None, path: Path | None, as_json: bool
) -> None:
    if path is None:
        raise click.UsageError("--base or --save-base is required")
    options = replace(options, ctx_size=options.ctx_size or DEFAULT_WINDOW)
    source = _read(text)
    compiled = _compile(model, options, adapter)
    _report_perplexity(compiled, model, _windows(compiled, source, text, options), as_json, path)


def _report_perplexity(
    compiled: "Model", name: str, windows: "Windows", as_json: bool, save: Path | None
) -> None:
    """Measure, show each window's running figure, and print the last; rows go to the file `save`."""
    import numpy as np

    from ck.cli.output import write_json
    from ck.evaluate.base_file import writing
    from ck.evaluate.estimate import finite
    from ck.evaluate.measure import perplexity, perplexity_of

    n_vocab, nll, running = compiled.exe.n_vocab, list["Values"](), list[float]()
    with nullcontext() if save is None else writing(save, windows.ids, n_vocab) as writer, _line_on_stderr():
        for found in perplexity_of(compiled.exe, windows, writer):
            nll.append(found)
            running.append(perplexity(np.concatenate(nll)).value)
            print(f"[{len(nll)}]{running[-1]:.4f},", end="", file=sys.stderr, flush=True)
    scored = np.concatenate(nll)
    estimate = perplexity(scored)
    if as_json:
        facts = {"model": name, **_sizes(windows), "n_scored": len(scored)}
        ppl = {name: finite(value) for name, value in estimate._asdict().items()}
        figures = {"mean_nll": float(scored.mean()), "running_ppl": [*map(finite, running)]}
        write_json({**facts, "ppl": ppl, **figures})
    else:
        click.echo(f"Final estimate: PPL = {estimate.value:.4f} +/- {estimate.uncertainty:.5f}")


def _against_file(
    model: str, base: "BaseFile", options: ProgramOptions, text: Text, adapter: str | None, as_json: bool
) -> None:
    from ck.errors import UsageError
    from ck.evaluate.measure import file_as_base
    from ck.evaluate.windows import Windows, bos_of

    n_ctx = base.ids.shape[1]
    if options.ctx_size not in (None, n_ctx):
        raise UsageError(
            f"{base.path}: its windows have {n_ctx} tokens, -c says {options.ctx_size}; leave it out"
        )
    compiled = _compile(model, replace(options, ctx_size=n_ctx), adapter)
    _require_vocabulary(model, compiled.exe.n_vocab, str(base.path), base.n_vocab)
    windows = Windows(base.ids[: text.chunks], bos_of(compiled.tokenizer))
    _report_divergence(compiled, (model, str(base.path)), windows, file_as_base(base), as_json)


def _against_model(
    model: str,
    base: str,
    options: tuple[ProgramOptions, ProgramOptions],
    text: Text,
    adapter: str | None,
    save: Path | None,
    as_json: bool,
) -> None:
    from ck.errors import UsageError
    from ck.evaluate.base_file import writing
    from ck.evaluate.measure import model_as_base

    source = _read(text)
    ours, theirs = (replace(each, ctx_size=each.ctx_size or DEFAULT_WINDOW) for each in options)
    compiled, other = _compile(model, ours, adapter), _compile(base, theirs, None)
    _require_vocabulary(model, compiled.exe.n_vocab, base, other.exe.n_vocab)
    windows, their_windows = (_windows(each, source, text, ours) for each in (compiled, other))
    if windows.ids.tolist() != their_windows.ids.tolist():
        raise UsageError(f"{model}: the text must be the tokens that it is to {base}, it is others")
    exe = other.exe
    with nullcontext() if save is None else writing(save, their_windows.ids, exe.n_vocab) as writer:
        rows = model_as_base(exe, their_windows, writer)
        _report_divergence(compiled, (model, base), windows, rows, as_json)


def _report_divergence(
    compiled: "Model", names: tuple[str, str], windows: "Windows", base: "Base", as_json: bool
) -> None:
    """Measure, show how it stands after each window, and print the statistics."""
    from ck.cli.output import write_json
    from ck.evaluate.divergence import as_json as figures_of
    from ck.evaluate.divergence import joined, statistics, text
    from ck.evaluate.measure import divergence_of

    parts = list["Compared"]()
    print("{:>5}  {:>21}  {:>23}  {:>23}  {:>18}  {:>18}".format(*HEAD), file=sys.stderr)
    for found in divergence_of(compiled.exe, windows, base):
        parts.append(found)
        print(_running(len(parts), joined(parts)), file=sys.stderr, flush=True)
    whole = joined(parts)
    if as_json:
        facts = {"model": names[0], "base": names[1], **_sizes(windows), "n_scored": len(whole)}
        write_json({**facts, **figures_of(statistics(whole))})
    else:
        click.echo(text(statistics(whole)))


def _running(n: int, of: "Compared") -> str:
    from ck.evaluate.divergence import log_ratio, same_top
    from ck.evaluate.estimate import mean, root_mean_square
    from ck.evaluate.measure import perplexity

    cells = [f"{value:9.4f} ± {spread:9.4f}" for value, spread in (perplexity(of.nll),)]
    cells += [f"{value:10.5f} ± {spread:10.5f}" for value, spread in (log_ratio(of), mean(of.kld))]
    parts = (root_mean_square(of.delta_p), same_top(of))
    cells += [f"{100 * value:7.3f} ± {100 * spread:6.3f} %" for value, spread in parts]
    return "  ".join([f"{n:>5}", *cells])


def _compile(model: str, options: ProgramOptions, adapter: str | None) -> "Model":
    from ck.frontend.model import open_model

    compiled = compile_model(model, options, adapter=adapter)
    warn_of_length(model, open_model(compiled.file).hp.context_length, compiled.exe.n_ctx)
    return compiled


def _windows(compiled: "Model", source: str, text: Text, options: ProgramOptions) -> "Windows":
    from ck.evaluate.windows import cut

    return cut(
        compiled.tokenizer, source, text_name(str(text.file)), options.ctx_size or DEFAULT_WINDOW, text.chunks
    )


def _read(text: Text) -> str:
    if text.file is None:
        raise click.UsageError("-f is required: the text to read")
    return read_text(text.file)


def _require_vocabulary(model: str, n_vocab: int, base: str, n_base: int) -> None:
    from ck.errors import UsageError

    if n_vocab != n_base:
        raise UsageError(f"{model}: needs the vocabulary of {base}, {n_base} tokens, it has {n_vocab}")


def _sizes(windows: "Windows") -> dict[str, int]:
    n_chunks, n_ctx = windows.ids.shape
    return {"n_ctx": n_ctx, "n_chunks": n_chunks}


@contextmanager
def _line_on_stderr() -> Generator[None]:
    """End the line that the block writes on stderr, however it ends."""
    try:
        yield
    finally:
        print(file=sys.stderr)


command.add_command(tasks)
