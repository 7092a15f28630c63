"""`ck`: finds the verb, runs it, and turns every ending into one line and an exit code.

A verb is a module of this package with a click command named `command`. It is imported when it is called, and
imports what is heavy (numpy, xdsl, the runtime) when it runs: `ck --help` only costs click.

Every option can be given as CK_<VERB>_<OPTION>, for example CK_RUN_TEMP=0. Exit codes: ck/errors.py, and
130 interrupted, 141 the reader of the output went away, 143 terminated.
"""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn

import click

from ck import __version__
from ck.errors import CkError, CkWarning, InternalError

# The order of the help page: from a model's name to its inside to the machine.
VERBS = {
    "run": "Chat with a model, or answer one prompt",
    "pull": "Fetch a model by name",
    "ls": "List models",
    "show": "Look inside a model",
    "compile": "Print or save what the compiler makes of a model",
    "export": "Write a model for transformers or llama.cpp",
    "quantize": "Write a model file in another storage type",
    "imatrix": "Measure which columns of a model's matrices weigh most",
    "bench": "Measure prompt and decode speed",
    "eval": "Measure how good a model is",
    "train": "Train a small model from text",
    "resume": "Go on with a training run",
    "parity": "Compare a training run with PyTorch",
    "regression": "Check every family against transformers and itself",
    "promote": "Make a checkpoint the run's model",
    "template": "Show, render and check a chat template",
    "tokenizer": "Train a tokenizer, clean and encode text for training",
    "doctor": "Check this machine",
    "cache": "List or prune what ck keeps on disk",
}
ALIASES = {"chat": "run"}

RESOURCE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EFBIG}
# To the start of a terminal's line, and erase it.
CLEAR = "\r\x1b[K"
MACHINE_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


class VerbGroup(click.Group):
    """The verbs of `VERBS`, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        return import_module(f"ck.cli.{name}").command if name in VERBS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = ALIASES.get(args[0], args[0])
        if name not in VERBS and not name.startswith("-"):
            ctx.fail(f"no such verb: {name}{_nearest(name)}")
        # The verb's own name, so that an alias reads the same CK_<VERB>_<OPTION>.
        return super().resolve_command(ctx, [name, *args[1:]])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, [*VERBS, *ALIASES], n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; the verbs are {', '.join(VERBS)}"


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"ck {__version__}")
        ctx.exit()


SETTINGS = {"auto_envvar_prefix": "CK", "help_option_names": ["-h", "--help"], "show_default": True}


@click.group(cls=VerbGroup, context_settings=SETTINGS)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version)
def cli() -> None:
    """A compiler from language models to native CPU code. To begin: ck run smollm2-135m"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line (the process's own by default) and return its exit code; errors go to stderr."""
    _prepare_process()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        with _warnings_as_lines(), cli.make_context("ck", given or ["--help"]) as context:
            cli.invoke(context)
        if sys.stdout:
            sys.stdout.flush()
        return 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        _drop_output()
        return 141
    except (KeyboardInterrupt, click.Abort):
        return _report("interrupted", 130)
    except Exception as error:
        known = _explain(error)
        code = _report_defect(error) if known is None else _report(*known)
        for note in notes_of(error):
            _report(note, code)
        return code


def notes_of(error: Exception) -> list[str]:
    """What an error of ours adds to its line: the file that replays a crash or a failed check."""
    return getattr(error, "__notes__", []) if isinstance(error, CkError | InternalError) else []


def _prepare_process() -> None:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # A terminal or a pipe that is not UTF-8 loses a character, not the answer.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def _warnings_as_lines() -> Generator[None]:
    """Print each CkWarning once, as a line on stderr, and leave other warnings as they are."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, CkWarning):
            plain(message, category, *place)
        elif str(message) not in said:
            said.add(str(message))
            # On a terminal a line that says what is being done may stand there.
            print(f"{CLEAR if sys.stderr.isatty() else ''}ck: {message}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", CkWarning)
        plain, warnings.showwarning = warnings.showwarning, show
        yield


def _terminate(number: int, frame: object) -> NoReturn:
    # An exception, so that temporary files go and children end.
    raise SystemExit(128 + number)


def _explain(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code of an error that is not ours; None for a defect."""
    if isinstance(error, CkError):
        return str(error), error.exit_code
    if isinstance(error, click.ClickException):
        return _usage_line(error), error.exit_code
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "memory: the machine has no more to give; try a smaller context with -c", 8
    if isinstance(error, OSError) and error.errno in RESOURCE_ERRORS | MACHINE_ERRORS:
        what = f"{error.filename}: " if error.filename else ""
        return f"{what}{error.strerror}", 8 if error.errno in RESOURCE_ERRORS else 6
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{str(error.filename)[:100]}..: a file's name must be shorter; give a path", 2
    return None


def _usage_line(error: click.ClickException) -> str:
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and isinstance(error.ctx.command, click.Group):
        names = ", ".join(error.ctx.command.list_commands(error.ctx))
        return f"{error.ctx.info_name}: needs one of {names}; see: {error.ctx.command_path} --help"
    message = " ".join(error.format_message().split()).rstrip(".").replace(". Did you", "; did you")
    line = message[:1].lower() + message[1:]
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None or context.info_name == "ck":
        return line
    return f"{context.info_name}: {line}; see: {context.command_path} --help"


def _report(message: str, code: int) -> int:
    # Whoever reads stderr may be gone as well.
    try:
        print(f"ck: {' '.join(message.splitlines())}", file=sys.stderr, flush=True)
    except OSError:
        _drop_output()
    return code


def _report_defect(error: Exception) -> int:
    import traceback

    from ck.passes.reproducer import PassCrash

    # A crash's file says where it came from.
    if not isinstance(error, PassCrash) or os.environ.get("CK_TRACEBACK") == "1":
        traceback.print_exception(error, file=sys.stderr)
    kind = "" if isinstance(error, InternalError) else f"{type(error).__name__}: "
    return _report(f"this is a defect in ck: {kind}{error}", InternalError.exit_code)


def _drop_output() -> None:
    # Python flushes stdout once more on exit; that must not fail again.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)


if __name__ == "__main__":
    sys.exit(main())
