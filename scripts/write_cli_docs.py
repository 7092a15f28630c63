"""Write docs/cli.md from the parser: python scripts/write_cli_docs.py [--check]

With --check nothing is written; exit code 1 says that the page is stale.
"""

import inspect
import sys
from pathlib import Path

import click

from ck import errors
from ck.cli.main import ALIASES, VERBS, cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WIDTH = 100

INTRODUCTION = """\
# The command line

This page is written by `python scripts/write_cli_docs.py` from the parser itself.

Results go to standard output, everything else to standard error. `--json` prints an object with
`schema_version`, except for `bench`, whose list has llama-bench's fields. Every option can also be given as
`CK_<VERB>_<OPTION>`, for example `CK_RUN_TEMP=0`; a flag wins over its variable.
"""

VARIABLES = {
    "CK_CACHE_DIR": "where models and programs are kept; else `$XDG_CACHE_HOME/ck`, else `~/.cache/ck`",
    "CK_THREADS": "threads when `-t` is not given",
    "CK_ISA_MASK": "instruction-set bundles kernels may use, a comma list such as `scalar,avx2`",
    "CC": "the C compiler; else `cc`",
    "HF_HUB_CACHE": "the Hugging Face cache; else `$HF_HOME/hub`, else `~/.cache/huggingface/hub`",
    "HF_TOKEN": "the token for private and gated repositories; else what `hf auth login` kept",
    "HF_ENDPOINT": "another hub than `https://huggingface.co`",
    "HF_HUB_OFFLINE": "1: open no connection, take what the cache has",
    "HF_HUB_DOWNLOAD_TIMEOUT": "seconds in which nothing may come from the hub; else 10",
}

SIGNALS = {130: "interrupted (Ctrl-C)", 141: "the reader of the output went away", 143: "terminated"}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, _help("ck", cli)]
    for verb in VERBS:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        parts += _section(f"ck {verb}", command)
    parts += [_table("Environment", VARIABLES), _table("Exit codes", _exit_codes())]
    return "\n".join(parts)


def _section(path: str, command: click.Command) -> list[str]:
    names = [alias for alias, verb in ALIASES.items() if path == f"ck {verb}"]
    alias = [f"Alias: {', '.join(f'`ck {name}`' for name in names)}.\n"] if names else []
    parts = [f"## {path}\n", *alias, _help(path, command)]
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            parts += [f"### {path} {name}\n", _help(f"{path} {name}", inner)]
    return parts


def _help(path: str, command: click.Command) -> str:
    widths = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, info_name=path, **widths, **cli.context_settings)
    return f"```text\n{command.get_help(context)}\n```\n"


def _exit_codes() -> dict[str, str]:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if hasattr(kind, "exit_code")]
    codes = {kind.exit_code: inspect.cleandoc(kind.__doc__ or "").splitlines()[0] for kind in kinds}
    codes[1] = "Another problem the user can fix."
    codes |= {0: "Done."} | {code: f"{text[0].upper()}{text[1:]}." for code, text in SIGNALS.items()}
    return {str(code): codes[code] for code in sorted(codes)}


def _table(title: str, rows: dict[str, str]) -> str:
    lines = [f"| `{name}` | {text} |" for name, text in rows.items()]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *lines, ""])


def main() -> int:
    """Write the page, or compare it."""
    if "--check" in sys.argv[1:]:
        return int(not PAGE.is_file() or PAGE.read_text("utf-8") != page())
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
