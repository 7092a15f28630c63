"""From C text to a shared object: the system's compiler, its flags, its identity for cache keys."""

import os
import shlex
import shutil
import subprocess
from functools import cache
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
    "-shared",
)


@cache
def compiler() -> list[str]:
    """The compiler's command: $CC, else cc. Raises MachineError when there is none."""
    command = _command()
    if shutil.which(command[0]) is None:
        raise MachineError(f"C compiler {command[0]} is not on PATH: apt-get install gcc, or set CC")
    return command


def _command() -> list[str]:
    given = os.environ.get("CC", "")
    try:
        return shlex.split(given) or ["cc"]
    except ValueError as error:
        raise MachineError(f"CC: must be a command, {given} has {str(error).lower()}") from error


def compiler_identity() -> str:
    """Path, size and time of the compiler's file: changes when the compiler does, without running it.

    Raises MachineError when $CC is no command.
    """
    words = _command()
    command, path = shlex.join(words), shutil.which(words[0])
    if path is None:
        return f"{command} missing"
    real = os.path.realpath(path)
    info = os.stat(real)
    return f"{command} {real} {info.st_size} {info.st_mtime_ns}"


def build_object(source: Path, target: Path, include: Path) -> None:
    """Compile `source` into the shared object `target`. Raises MachineError with the compiler's own words."""
    command = [*compiler(), *FLAGS, f"-I{include}", "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    source.with_name("cc.log").write_text(shlex.join(command) + "\n" + done.stdout + done.stderr)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise MachineError(
            f"C compiler {shlex.join(compiler())} failed, exit code {done.returncode}: {first}"
        )
    if not target.is_file():
        raise MachineError(f"C compiler {shlex.join(compiler())} made no program; set CC to one that does")
