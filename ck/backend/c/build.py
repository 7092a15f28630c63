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
    command = shlex.split(os.environ.get("CC", "cc")) or ["cc"]
    if shutil.which(command[0]) is None:
        raise MachineError(f"C compiler {command[0]} is not on PATH: apt-get install gcc, or set CC")
    return command


def compiler_identity() -> str:
    """Path, size and time of the compiler's file: changes when the compiler does, without running it."""
    command = os.environ.get("CC", "cc")
    path = shutil.which(shlex.split(command)[0])
    if path is None:
        return f"{command} missing"
    real = os.path.realpath(path)
    info = os.stat(real)
    return f"{command} {real} {info.st_size} {info.st_mtime_ns}"


def build_object(source: Path, target: Path, include: Path) -> None:
    """Compile `source` into the shared object `target`. Raises MachineError with the compiler's own words."""
    command = [*compiler(), *FLAGS, f"-I{include}", "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    source.with_name("cc.log").write_text(shlex.join(command) + "\n" + done.stdout + done.stderr)
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
        raise MachineError(f"{command[0]} failed on {source}: {first}; see {source.with_name('cc.log')}")
