"""A pass or a backend that crashes, and the file that replays it.

    // ck-opt reproducer: ck-fuse-rows raised KeyError: 'x'
    // configuration: --passes=ck-fuse-rows --check
    //   ck/passes/fuse_rows.py:91 in apply
    builtin.module {
      ...

The first two lines say why it was written and what `ck-opt --reproduce FILE` does with the IR below them;
further comment lines are where the exception came from. In a configuration --passes, --target and --check may
stand.
"""

import os
import shlex
import tempfile
from argparse import ArgumentError, ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from traceback import extract_tb

from ck.errors import InternalError, MalformedError, UsageError

FIRST, SECOND = "// ck-opt reproducer: ", "// configuration: "
_PACKAGE = Path(__file__).parents[2]


class PassCrash(InternalError):
    """A pass or a backend raised what it must not, or a pass left IR that does not verify.

    what       the pass, the target or the backend that did
    before     the IR's text before it
    passes     the passes that replay it, options the rest of the configuration
    """

    def __init__(
        self, what: str, why: str, before: str, passes: Sequence[str], options: Sequence[str] = ()
    ) -> None:
        super().__init__(f"{what} {' '.join(why.split())}")
        self.what, self.before, self.passes, self.options = what, before, passes, options

    @staticmethod
    def raised(
        what: str, error: Exception, before: str, passes: Sequence[str], options: Sequence[str] = ()
    ) -> "PassCrash":
        """The crash that exception `error` is."""
        return PassCrash(what, f"raised {type(error).__name__}: {error}", before, passes, options)

    def keep(self, directory: Path) -> None:
        """Write the reproducer to `directory`, and note on the exception how to replay it."""
        frames = _frames(self.__cause__) if self.__cause__ else []
        try:
            path = write_reproducer(directory, self.before, self.passes, str(self), self.options, frames)
        except OSError as error:
            self.add_note(unkept_line(directory, error))
        else:
            self.add_note(kept_line(path))


def kept_line(path: Path) -> str:
    """How to replay the reproducer at `path`."""
    return f"{path} holds the IR before it; to replay it: ck-opt --reproduce {shlex.quote(str(path))}"


def unkept_line(directory: Path, error: OSError) -> str:
    """Why there is no reproducer in `directory`."""
    reason = (error.strerror or str(error)).lower()
    return f"no reproducer: {directory}: a directory that can be written is required, {reason}"


def _frames(error: BaseException) -> list[str]:
    """Where an exception came from, the last call last, files by their place in their package."""
    return [
        f"{_place(Path(frame.filename))}:{frame.lineno} in {frame.name}"
        for frame in extract_tb(error.__traceback__)
    ]


def _place(file: Path) -> Path:
    if "site-packages" in file.parts:
        return Path(*file.parts[file.parts.index("site-packages") + 1 :])
    return file.relative_to(_PACKAGE) if file.is_relative_to(_PACKAGE) else file


@dataclass(frozen=True)
class Reproducer:
    """What a reproducer says of itself."""

    why: str
    passes: str
    target: str
    check: bool


def write_reproducer(
    directory: Path,
    before: str,
    passes: Sequence[str],
    why: str,
    options: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write `before` with a configuration of `passes` and `options`; returns the file, named by its content.

    `directory` is made where it is missing. Raises OSError.
    """
    given = [f"--passes={','.join(passes)}"] if passes else []
    lines = [FIRST + " ".join(why.split()), SECOND + shlex.join([*given, *options])]
    text = "\n".join([*lines, *(f"//   {note}" for note in notes), before.rstrip("\n"), ""])
    what = passes[-1].partition("{")[0] if passes else "-".join(options).strip("-").replace("=", "-")
    name = f"ck-reproducer-{what}-{sha256(text.encode()).hexdigest()[:8]}.mlir"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=directory, prefix=".ck-reproducer-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(scratch, directory / name)
    except BaseException:
        os.unlink(scratch)
        raise
    return directory / name


def read_reproducer(path: Path) -> Reproducer:
    """What the reproducer at `path` says. Raises UsageError for none, MalformedError for another file."""
    try:
        with path.open(encoding="utf-8") as file:
            first, second = file.readline().rstrip("\n"), file.readline().rstrip("\n")
    except OSError as error:
        raise UsageError(
            f"{path}: no such file" if isinstance(error, FileNotFoundError) else str(error)
        ) from error
    except UnicodeDecodeError as error:
        raise MalformedError(f"{path}: a reproducer is UTF-8 text, byte {error.start} is not") from error
    if not first.startswith(FIRST) or not second.startswith(SECOND):
        raise MalformedError(
            f"{path}: a reproducer begins with the lines {FIRST.strip()!r} and {SECOND.strip()!r}; "
            "for other files name the passes with -p"
        )
    return _configured(path, first.removeprefix(FIRST), second.removeprefix(SECOND))


def _configured(path: Path, why: str, configuration: str) -> Reproducer:
    # A file from elsewhere says what to run, never where to write.
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--passes", default="")
    parser.add_argument("--target", default="mlir")
    parser.add_argument("--check", action="store_true")
    try:
        found, others = parser.parse_known_args(shlex.split(configuration))
    except (ArgumentError, ValueError) as error:
        raise MalformedError(f"{path}: its configuration cannot be read: {error}") from error
    if others:
        raise MalformedError(
            f"{path}: a configuration takes --passes, --target and --check, got {shlex.join(others)}"
        )
    return Reproducer(why, found.passes, found.target, found.check)
