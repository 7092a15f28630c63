"""From C text to a shared object: the system's compiler, its flags, its identity for cache keys."""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ck.errors import MachineError

# No reassociation and no contraction: every sum keeps the order that the IR spells out.
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
)
# Seconds after which a compiler that has not ended is taken for one that does not work. Ours takes two.
PATIENCE = 600.0
# Where ck_rt.h lies.
INCLUDE = Path(__file__).resolve().parents[2] / "_lib"


class CompilerError(MachineError):
    """The C compiler is missing, or makes no program that loads."""


def compiler() -> list[str]:
    """The compiler's command: $CC, else cc. Raises CompilerError when there is none."""
    command = _command()
    if shutil.which(command[0]) is None:
        raise CompilerError(f"{called()} is not on PATH: apt-get install gcc, or set CC")
    return command


def _command() -> list[str]:
    given = os.environ.get("CC", "")
    try:
        return shlex.split(given) or ["cc"]
    except ValueError as error:
        raise CompilerError(f"CC: must be a command, {given} has {str(error).lower()}") from error


def called() -> str:
    """The compiler as messages name it."""
    source = "CC: " if os.environ.get("CC", "").strip() else ""
    return f"{source}C compiler {shlex.join(_command())}"


def compiler_identity() -> str:
    """Path, size and time of the compiler's file: changes when the compiler does, without running it.

    Raises CompilerError when $CC is no command.
    """
    words = _command()
    command, path = shlex.join(words), shutil.which(words[0])
    if path is None:
        return f"{command} missing"
    real = os.path.realpath(path)
    info = os.stat(real)
    return f"{command} {real} {info.st_size} {info.st_mtime_ns}"


def build_object(source: Path, target: Path, include: Path = INCLUDE) -> None:
    """Compile `source` to the shared object `target`. Raises CompilerError with the compiler's own words."""
    _compile(source, target, ("-shared", f"-I{include}"))


def assembly(source: Path) -> str:
    """The instructions that `source` is compiled to. Raises CompilerError with the compiler's own words."""
    with tempfile.TemporaryDirectory(prefix="ck-assembly-") as folder:
        target = Path(folder, "program.s")
        _compile(Path(shutil.copy(source, folder)), target, ("-S", f"-I{INCLUDE}"))
        return target.read_text()


def _compile(source: Path, target: Path, options: Sequence[str]) -> None:
    """Run the compiler, and keep what it said in cc.log beside the source."""
    command = [*compiler(), *FLAGS, *options, "-o", str(target), str(source)]
    code, out, err = _run(command)
    source.with_name("cc.log").write_text(shlex.join(command) + "\n" + out + err)
    if code:
        lines = [line for line in err.splitlines() if line.strip()] or ["it says nothing"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise CompilerError(f"{called()} failed, exit code {code}: {_printable(first)}")
    if not target.is_file():
        raise CompilerError(f"{called()} made no program; set CC to one that does")


def _run(command: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a compiler. It gets no input, and ends with all that it started."""
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        started = subprocess.Popen(
            command, stdin=nothing, stdout=pipe, stderr=pipe, text=True, errors="replace", process_group=0
        )
    except OSError as error:
        raise CompilerError(f"{called()} does not start: {error.strerror}") from error
    try:
        out, err = started.communicate(timeout=PATIENCE)
    except BaseException as error:
        # One that heard of the same Ctrl-C is gone.
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise CompilerError(f"{called()} does not end within {PATIENCE:g} s") from error
    return started.returncode, out, err


def _printable(text: str) -> str:
    """What a terminal can show of a compiler's words, on one line."""
    return "".join(char if char.isprintable() else "?" for char in text[:200])
