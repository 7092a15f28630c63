"""`ck template show|render|lint`: a chat template, what it makes of a conversation, whether it fits."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from ck.cli.options import find_model, json_option, model_argument

if TYPE_CHECKING:
    from ck.frontend.chat_template import ChatTemplate
    from ck.frontend.tokenizer import Tokenizer

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.option("--chat-template", metavar="FILE", help="This template in place of the model's own.")


@click.group()
def command() -> None:
    """Look at the chat template of MODEL, a program that turns a conversation into a prompt.

    MODEL is what `ck run` takes. No weight is read and nothing is compiled.
    """


@command.command()
@model_argument
@json_option
def show(model: str, as_json: bool) -> None:
    """Print the template."""
    from ck.cli.output import write_json
    from ck.runtime.terminal import terminal_safe

    source, _ = _source(model, None)
    if as_json:
        write_json({"chat_template": source})
    else:
        click.echo(terminal_safe(source) if sys.stdout.isatty() else source)


@dataclass(frozen=True)
class _Wishes:
    """What to render; names are the flags'."""

    prompt: str | None
    messages: str | None
    system: str | None
    tools: str | None
    thinking: str
    set: tuple[str, ...]
    no_reply: bool


@command.command()
@model_argument
@click.option("-p", "--prompt", help="A user's message.")
@click.option(
    "--messages",
    metavar="FILE",
    help='A JSON list of messages, or {"messages": [...], "tools": [...]}; - is standard input.',
)
@click.option("--system", help="A system message in front.")
@click.option("--tools", metavar="FILE", help="A JSON list of tools, as transformers takes them.")
@click.option("--thinking", type=click.Choice(["auto", "on", "off"]), default="auto", help="As in `ck run`.")
@click.option("--set", metavar="NAME=VALUE", multiple=True, help="A variable, JSON or text; repeatable.")
@click.option("--no-reply", is_flag=True, help="Do not ask for a reply at the end.")
@click.option("--ids", is_flag=True, help="Print the ids that `ck run` would feed.")
@_FILE
@json_option
def render(model: str, ids: bool, chat_template: str | None, as_json: bool, **given: Any) -> None:
    """Print the prompt that the template makes of a conversation, byte for byte as transformers does.

    With --ids messages are guarded as in a chat: a control token that one spells stays text.
    """
    from ck.cli.output import write_json
    from ck.frontend.chat_template import encode_chat

    wishes = _Wishes(**given)
    messages, variables = _conversation(wishes)
    template, tokenizer = _load(model, chat_template)
    variables |= _thinking(template, wishes.thinking)
    text = template.render(messages, not wishes.no_reply, variables)
    if not ids and not as_json:
        click.echo(text, nl=sys.stdout.isatty())
        return
    guarded = cast(list[dict[str, Any]], _guard(messages, tokenizer))
    fed = encode_chat(tokenizer, template.render(guarded, not wishes.no_reply, variables))
    if as_json:
        write_json({"text": text, "ids": fed})
    else:
        click.echo(" ".join(map(str, fed)))


@command.command()
@model_argument
@_FILE
@json_option
def lint(model: str, chat_template: str | None, as_json: bool) -> None:
    """Check that the template fits the vocabulary and the tokens that end a reply.

    Prints a line for each warning and each note. Exit code 5 when there is a warning; `ck run` prints the
    first one at its start.
    """
    from ck.cli.output import printable, write_json
    from ck.errors import GateError
    from ck.frontend.template_lint import lint_template

    found = lint_template(*_load(model, chat_template))
    n_warnings = sum(finding.level == "warning" for finding in found)
    if as_json:
        write_json({"n_warnings": n_warnings, "findings": [vars(finding) for finding in found]})
    for finding in [] if as_json else found:
        click.echo(printable(f"{finding.level}: {finding.rule}: {finding.text}"))
    if n_warnings:
        warnings = "1 warning" if n_warnings == 1 else f"{n_warnings} warnings"
        raise GateError(f"{Path(model).name}: the chat template must fit the tokens, it has {warnings}")
    if not found and not as_json:
        click.echo("the template fits")


def _source(model: str, path: str | None) -> "tuple[str, Callable[[], Tokenizer]]":
    """The template's text, and what makes the tokenizer. Raises UsageError when the model has no template."""
    from ck.errors import UsageError
    from ck.frontend.model import open_file

    file = open_file(find_model(model))
    source = file.chat_template if path is None else _read(path)
    if source is None:
        raise UsageError(f"{Path(model).name}: has no chat template, it completes raw text")
    return source, file.tokenizer


def _load(model: str, path: str | None) -> "tuple[ChatTemplate, Tokenizer]":
    from ck.frontend.chat_template import template_of

    source, make = _source(model, path)
    tokenizer = make()
    return template_of(source, tokenizer), tokenizer


def _conversation(wishes: _Wishes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Messages and variables. Raises click.UsageError."""
    messages, tools = list[dict[str, Any]](), None
    if wishes.messages is not None:
        given = _json(wishes.messages)
        fields = cast(Mapping[str, Any], given if isinstance(given, Mapping) else {"messages": given})
        messages, tools = _objects(fields.get("messages"), wishes.messages), fields.get("tools")
    if wishes.system is not None:
        messages.insert(0, {"role": "system", "content": wishes.system})
    if wishes.prompt is not None:
        messages.append({"role": "user", "content": wishes.prompt})
    if not messages:
        raise click.UsageError("--prompt or --messages is required")
    if wishes.tools is not None:
        tools = _objects(_json(wishes.tools), wishes.tools)
    variables = dict(map(_variable, wishes.set))
    return messages, variables if tools is None else {"tools": tools, **variables}


def _variable(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set: must be NAME=VALUE, found {text}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _thinking(template: "ChatTemplate", mode: str) -> dict[str, bool]:
    from ck.frontend.thinking import read_thinking

    thinking = None if mode == "auto" else read_thinking(template)
    if mode == "auto":
        return {}
    if thinking is None or thinking.switch is None:
        raise click.UsageError(f"--thinking {mode}: needs a switch, the chat template has none")
    return {thinking.switch: mode == "on"}


def _guard(value: Any, tokenizer: "Tokenizer") -> Any:
    """`value` with the control tokens that its texts spell guarded; roles are the template's to judge."""
    if isinstance(value, str):
        return tokenizer.guard(value)
    if isinstance(value, list):
        return [_guard(entry, tokenizer) for entry in cast(list[Any], value)]
    if isinstance(value, dict):
        entries = cast(dict[str, Any], value).items()
        return {key: entry if key == "role" else _guard(entry, tokenizer) for key, entry in entries}
    return value


def _objects(value: Any, where: str) -> list[dict[str, Any]]:
    """A list of JSON objects. Raises click.UsageError."""
    entries = cast(list[dict[str, Any]], value)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in cast(list[Any], value)):
        raise click.UsageError(f"{where}: must be a list of JSON objects")
    return entries


def _json(path: str) -> Any:
    try:
        return json.loads(sys.stdin.read() if path == "-" else _read(path))
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{path}: must be JSON: {error}") from None


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError as error:
        raise click.UsageError(f"{path}: must be a readable file, {error.strerror}") from error
