"""lit tests without processes: RUN lines of ck-opt and filecheck, executed by their Python entry points.

    // RUN: ck-opt %s -p ck-fuse-rows | filecheck %s
    // RUN: not ck-opt %s 2>&1 | filecheck %s --check-prefix=ERROR

A line is a pipe of `ck-opt` and, last, `filecheck`; `%s` is the file, `2>&1` sends errors down the pipe,
`not` wants a failure. `run_file` is what lit (tests/lit.cfg.py) and pytest (tests/test_lit.py) call.
"""

import io
import re
import shlex
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import lit.formats
import lit.Test
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import parse_argv_options
from filecheck.parser import Parser

from ck.cli import opt

_RUN = re.compile(r"//\s*RUN:\s*(.*?)\s*$", re.MULTILINE)


def run_lines(text: str) -> list[str]:
    """The RUN lines of a test, those that end in a backslash joined to the next."""
    joined = "\n".join(_RUN.findall(text))
    return joined.replace("\\\n", " ").splitlines()


def run_file(path: Path) -> str | None:
    """Run a test: None when it passes, else what went wrong."""
    lines = run_lines(path.read_text())
    if not lines:
        return f"{path}: no RUN line"
    for line in lines:
        failure = _run_line(line, path)
        if failure:
            return f"{path}: {line}\n{failure}"
    return None


def _run_line(line: str, path: Path) -> str | None:
    output = ""
    for command in line.split("|"):
        words = [str(path) if word == "%s" else word for word in shlex.split(command)]
        wants_failure = words[0] == "not"
        program, *arguments = words[1:] if wants_failure else words
        if program == "ck-opt":
            code, output, errors = _ck_opt(arguments)
        elif program == "filecheck":
            code, errors = _filecheck(arguments, output)
        else:
            return f"a RUN line is made of ck-opt and filecheck, got {program}"
        if (code != 0) != wants_failure:
            return f"{program} gave exit code {code}\n{errors}"
    return None


def _ck_opt(arguments: Sequence[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    both = "2>&1" in arguments
    with redirect_stdout(out), redirect_stderr(out if both else err):
        try:
            code = opt.run([argument for argument in arguments if argument != "2>&1"])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 2
    return code, out.getvalue(), out.getvalue() if both else err.getvalue()


def _filecheck(arguments: Sequence[str], text: str) -> tuple[int, str]:
    options = parse_argv_options(["filecheck", *arguments])
    errors = io.StringIO()
    with redirect_stderr(errors), redirect_stdout(errors):
        source = FInput("<output>", FInput.canonicalize_line_ends(text))
        code = Matcher(options, source, Parser.from_opts(options)).run()
    return code, f"{errors.getvalue()}\nthe whole output was:\n{text}"


class InProcess(lit.formats.FileBasedTest):
    """lit's view of `run_file`."""

    def execute(self, test: lit.Test.Test, lit_config: object) -> tuple[lit.Test.ResultCode, str]:
        failure = run_file(Path(test.getSourcePath()))
        return (lit.Test.FAIL, failure) if failure else (lit.Test.PASS, "")
