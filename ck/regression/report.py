"""A matrix as text: a table of templates x checks, every figure behind it, and the same as JSON.

{schema_version, kind, profile, passed, versions, machine, columns, rows: [{family, passed, wall_s, checks:
[{name, passed, figures: [{name, value, limit, where, reason, passed}], detail}]}]}. A check that was not made
has passed null and figures whose value is null, with the reason. A limit is the most that is right.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ck import __version__
from ck.errors import UsageError
from ck.regression.matrix import Matrix
from ck.runtime.library import isa_path
from ck.runtime.machine import cpu_name
from ck.train.files import replacing
from ck.train.parity.figures import Check, Figure
from ck.train.parity.report import check_json
from ck.train.rundir import output_errors

WORDS = {True: "pass", False: "FAIL", None: "null"}


def to_json(matrix: Matrix) -> dict[str, Any]:
    """As plain data; numbers that JSON does not have are texts."""
    rows = [
        {
            "family": row.template,
            "passed": row.passed,
            "wall_s": row.wall_s,
            "checks": [check_json(check) for check in row.checks],
        }
        for row in matrix.rows
    ]
    return {
        "schema_version": 1,
        "kind": matrix.kind,
        "profile": matrix.profile,
        "passed": matrix.passed,
        "versions": _versions(),
        "machine": _machine(),
        "columns": list(matrix.columns),
        "rows": rows,
    }


def summary(matrix: Matrix) -> list[list[str]]:
    """The table, a row a template: of each check the verdict and a figure."""
    rows = [["family", *matrix.columns, "s"]]
    for row in matrix.rows:
        rows.append([row.template, *map(_cell, row.checks), f"{row.wall_s:.1f}"])
    return rows


def markdown(matrix: Matrix) -> str:
    """The table, and below it every figure."""
    facts = {**_versions(), **_machine()}
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    figures = [["family", "check", "figure", "value", "limit", "", "where, or why not"]]
    for row in matrix.rows:
        for check in row.checks:
            figures += [[row.template, check.name, *_figure(each)] for each in check.figures]
    tables = (_table(summary(matrix)), _table(figures))
    return f"# ck regression {matrix.kind} --{matrix.profile}\n\n{told}\n\n" + "\n".join(tables)


def make_folder(folder: Path) -> None:
    """Make the folder of the two files. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{folder}: must be a folder, or nothing yet, {error.strerror}") from error


def write(matrix: Matrix, folder: Path) -> list[Path]:
    """Write KIND-PROFILE.json and .md to `folder`, which is there."""
    stem = f"{matrix.kind}-{matrix.profile}"
    texts = {
        f"{stem}.json": json.dumps(to_json(matrix), indent=1, ensure_ascii=False) + "\n",
        f"{stem}.md": markdown(matrix),
    }
    for name, text in texts.items():
        with output_errors(folder / name), replacing(folder / name) as file:
            file.write(text.encode())
    return [folder / name for name in texts]


def _versions() -> dict[str, str]:
    return {"ck": __version__, "torch": version("torch"), "transformers": version("transformers")}


def _machine() -> dict[str, str]:
    return {"cpu": cpu_name(), "isa": isa_path()}


def _cell(check: Check) -> str:
    """The verdict and its figure: the first that failed, else the first of all, where that is no count."""
    failed = (figure for figure in check.figures if figure.passed is False)
    told = next(failed, check.figures[0])
    is_count = told.value is None or told.limit is None or (told.passed and told.limit == 0)
    return WORDS[check.passed] if is_count else f"{WORDS[check.passed]} {told.value:.1e}"


def _figure(figure: Figure) -> list[str]:
    value = "null" if figure.value is None else f"{figure.value:.3g}"
    limit = "" if figure.limit is None else f"{figure.limit:g}"
    return [figure.name, value, limit, WORDS[figure.passed], figure.where or figure.reason or ""]


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body]) + "\n"
