"""`ck run MODEL`: chat, or answer one prompt. `chat` is its alias."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ck.cli.options import ProgramOptions, compile_model, json_option, model_argument, program_options, take
from ck.cli.sampling_options import sampling_options, take_sampling

if TYPE_CHECKING:
    from ck.frontend.thinking import Template
    from ck.runtime.chat import Conversation, ThinkingMode
    from ck.runtime.generate import Piece
    from ck.runtime.model import Model
    from ck.runtime.sampling import Sampler
    from ck.runtime.terminal import Display


@dataclass(frozen=True)
class RunOptions:
    """What to say and how to print it; names are the flags'."""

    prompt: str | None
    file: str | None
    system: str | None
    predict: int
    chat_template: str
    thinking: "ThinkingMode"
    as_json: bool
    show_token_ids: bool
    show_token_pieces: bool
    ascii_display: bool
    stop: tuple[str, ...]
    model_sampling: bool
    generate_only: bool
    force_compile: bool


@click.command()
@model_argument
@click.option("-p", "--prompt", help="Answer this and leave.")
@click.option("-f", "--file", help="Read the prompt, UTF-8, from a file; - is standard input.")
@click.option("--system", help="The system message of the conversation.")
@click.option("-n", "--predict", type=click.IntRange(-1), default=-1, help="Tokens a reply; -1 is no limit.")
@program_options
@sampling_options
@click.option("--adapter", help="A folder of PEFT's, or its name on the hub, merged on load.")
@click.option("--chat-template", default="auto", help="auto (the model's), none (raw text) or a FILE.")
@click.option(
    "--thinking",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Think before the answer: as the template has it, or by its switch. off shows no thinking.",
)
@json_option
@click.option("--show-token-ids", is_flag=True, help="Print the ids of prompt and answer on stderr.")
@click.option("--show-token-pieces", is_flag=True, help="Print their texts on stderr.")
@click.option("--ascii-display", is_flag=True, help="Print what is not ASCII as escapes.")
@click.option("--generate-only", is_flag=True, help="Compile, then leave.")
@click.option("--force-compile", is_flag=True, help="Compile even when the program is in the cache.")
def command(model: str, adapter: str | None, **given: Any) -> None:
    """Chat with MODEL: a GGUF file, a model folder as transformers saves it, a run directory, or a name that
    `ck pull` takes, which is fetched.

    With --prompt or --file, standard output gets the answer and nothing else; what the model thinks before
    it, seed and speed go to standard error. Standard input may be a pipe: each line is a turn.
    """
    options = take(RunOptions, given)
    program = take(ProgramOptions, given)
    sampling = take_sampling(given)
    _check_sampling(sampling, options)
    prompt = _prompt(options)
    if options.as_json and prompt is None:
        raise click.UsageError("--json needs --prompt or --file")
    compiled = compile_model(model, program, options.force_compile, adapter=adapter)
    if options.generate_only:
        return
    conversation = _conversation(compiled, options, Path(model).name)
    sampler = _sampler(compiled, sampling, options)
    if prompt is None:
        _chat(conversation, sampler, compiled, options)
    else:
        _answer(conversation, sampler, prompt, options)


def _prompt(options: RunOptions) -> str | None:
    if options.file is None:
        # An argument that is not UTF-8 arrives with surrogates, which no tokenizer takes.
        given = options.prompt
        return None if given is None else given.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if options.prompt is not None:
        raise click.UsageError("--prompt and --file exclude each other")
    from ck.cli.texts import read_text

    # Lines may end as on other systems.
    return read_text(options.file).removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")


def _stdin() -> TextIO:
    # Started with standard input closed, Python has none.
    return sys.stdin or io.StringIO()


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError as error:
        raise click.UsageError(f"{path}: must be a readable file, {error.strerror}") from error


def _conversation(model: "Model", options: RunOptions, name: str) -> "Conversation":
    from ck.cli.progress import prompt_progress
    from ck.runtime.chat import Conversation
    from ck.runtime.generate import Session

    template = _template(model, options.chat_template)
    if template is None:
        why = "as asked" if options.chat_template == "none" else f"{name} has no chat template"
        print(f"{why}: completing raw text", file=sys.stderr)
    else:
        _print_misfits(template, model)
    session = Session(model.exe, model.tokenizer, stop=options.stop, progress=prompt_progress())
    return Conversation(session, template, options.system, options.thinking)


def _template(model: "Model", choice: str) -> "Template | None":
    if choice == "auto":
        return model.chat_template
    if choice == "none":
        return None
    from ck.frontend.chat_template import template_of

    return template_of(_read_text(choice), model.tokenizer)


def _print_misfits(template: "Template", model: "Model") -> None:
    """One line when the template does not fit the tokens; what it cannot render says so when it has to."""
    from ck.errors import CkError
    from ck.frontend.template_lint import lint_template

    try:
        found = lint_template(template, model.tokenizer)
    except CkError:
        return
    warnings = [finding.text for finding in found if finding.level == "warning"]
    if warnings:
        more = f" (1 of {len(warnings)} warnings)" if len(warnings) > 1 else ""
        print(f"ck: chat template: {warnings[0]}{more}; see: ck template lint", file=sys.stderr)


def _check_sampling(sampling: dict[str, Any], options: RunOptions) -> None:
    """Raises UsageError for what is wrong in itself, before anything is loaded."""
    from ck.runtime.samplers.params import SamplingParams
    from ck.runtime.stops import check_stops

    SamplingParams(**sampling)
    check_stops(options.stop)


def _sampler(model: "Model", sampling: dict[str, Any], options: RunOptions) -> "Sampler":
    """The sampler; what it is made of goes to standard error, with what the model wants."""
    from ck.runtime.sampling import Sampler, settle

    defaults = model.sampling if options.model_sampling else None
    sampler = Sampler(settle(sampling, defaults), model.tokenizer)
    exe = model.exe
    print(f"context {exe.n_ctx}, threads {exe.n_threads}, seed {sampler.seed}", file=sys.stderr)
    if defaults is not None:
        print(f"sampling: {defaults.line(sampling)}", file=sys.stderr)
    return sampler


def _display(options: RunOptions) -> "Display":
    from ck.runtime.terminal import Display

    return Display(options.show_token_ids, options.show_token_pieces, options.ascii_display)


def _chat(conversation: "Conversation", sampler: "Sampler", model: "Model", options: RunOptions) -> None:
    from ck.runtime.repl import Repl

    repl = Repl(conversation, sampler, model.keeper, options.predict, _display(options), _stdin())
    code = repl.run()
    if code:
        raise click.exceptions.Exit(code)


def _answer(conversation: "Conversation", sampler: "Sampler", prompt: str, options: RunOptions) -> None:
    pieces = _stream(conversation, sampler, prompt, options)
    text = "".join(piece.text for piece in pieces)
    if options.as_json:
        _write_answer(conversation, sampler, prompt, pieces, options.ascii_display)
    elif not text.endswith("\n"):
        click.echo()
    session = conversation.session
    for line in _display(options).lines(session.prompt, session.reply, session.tokenizer):
        print(line, file=sys.stderr)
    print(session.stats.line(), file=sys.stderr)


def _stream(
    conversation: "Conversation", sampler: "Sampler", prompt: str, options: RunOptions
) -> "list[Piece]":
    """The reply, printed as it comes unless it will be JSON."""
    from ck.runtime.terminal import ThoughtPrinter

    display = _display(options)
    thoughts = ThoughtPrinter(sys.stderr, options.thinking != "off" and not options.as_json, display)
    pieces: list[Piece] = []
    try:
        for piece in conversation.reply(prompt, sampler, options.predict):
            pieces.append(piece)
            thoughts.write(piece.thought, piece.text)
            if not options.as_json:
                click.echo(display.text(piece.text, sys.stdout), nl=False)
    finally:
        thoughts.end()
    return pieces


def _write_answer(
    conversation: "Conversation", sampler: "Sampler", prompt: str, pieces: "list[Piece]", ascii: bool
) -> None:
    from ck.cli.output import write_json

    session = conversation.session
    write_json(
        {
            "prompt": prompt,
            "answer": "".join(piece.text for piece in pieces),
            "thinking": "".join(piece.thought for piece in pieces),
            "prompt_ids": list(session.prompt),
            "answer_ids": session.reply,
            "seed": sampler.seed,
            "sampling": sampler.params.as_json(),
            "stats": session.stats.as_json(),
        },
        ascii,
    )
