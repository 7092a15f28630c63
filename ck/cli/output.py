"""What verbs print: JSON objects with a schema version, sizes, and tables of plain text."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ck.errors import UsageError
from ck.files import replacing


def write_json(fields: Mapping[str, Any], ascii: bool = False) -> None:
    """One JSON object on stdout, `schema_version` first; in ASCII alone when that is asked for."""
    click.echo(json.dumps({"schema_version": 1, **fields}, indent=2, ensure_ascii=ascii))


def mebibytes(n_bytes: int) -> str:
    """A size as llama.cpp prints it: MiB below one GiB, GiB from there."""
    mib = n_bytes / 2**20
    return f"{mib:.2f} MiB" if mib < 1024 else f"{mib / 1024:.2f} GiB"


def printable(text: str) -> str:
    """`text` on one line, control characters escaped: names in a model file are anybody's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def left_out(names: Sequence[str]) -> str:
    """What a model file has and ck does without, in a line."""
    return f"{len(names)} tensors, for pictures or for tokens behind the next: {printable(names[0])}, .."


def write_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows in aligned columns on stdout."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_result(data: str | bytes, path: str | None) -> None:
    """`data` to the file at `path`, whole or not at all, or to stdout when there is none.

    A device or a pipe at `path` stays, and is written to. Raises UsageError when there can be no file.
    """
    if path is None or path == "-":
        click.echo(data, nl=isinstance(data, str) and not data.endswith("\n"))
        return
    if not path:
        raise UsageError("output: the name of a file is required, found an empty one")
    encoded = data.encode() if isinstance(data, str) else data
    try:
        if is_stream(path):
            Path(path).write_bytes(encoded)
        else:
            with replacing(Path(path)) as out:
                out.write(encoded)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UsageError(f"{path}: must be a file that can be written, {error.strerror}") from error
    except OSError as error:
        # Said of the file that was asked for, not of the one beside it.
        error.filename = path
        raise


def is_stream(path: str) -> bool:
    """Whether `path` is a device or a pipe, such as /dev/null."""
    target = Path(path)
    return target.is_char_device() or target.is_fifo()
