"""Python in processes of their own: to be killed, to hold locks, to see a small or a read-only disk."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """A child that runs `code`, its output in pipes."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment())


def run(code: str, *arguments: object) -> str:
    """What a child that must end well prints."""
    child = start(code, *arguments)
    out, error = child.communicate(timeout=200)
    assert child.returncode == 0, error
    return out


@cache
def _namespace() -> tuple[str, ...] | None:
    """The command prefix under which a mount is possible; None where the system allows none."""
    for flags in ("-m", "-rm"):
        command = ("unshare", flags)
        try:
            tried = subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
        except FileNotFoundError:
            return None
        if tried.returncode == 0:
            return command
    return None


def run_on_disk(code: str, disk: Path, n_kib: int) -> str:
    """What a child prints for which `disk` is a file system of n_kib; it finds the path in sys.argv[1].

    Its mounts are its own and go with it. `mount -o remount,ro` works in it.
    """
    prefix = _namespace()
    if prefix is None:
        pytest.skip("the system lets this user mount nothing, so there is no small disk to fill")
    script = 'mount -t tmpfs -o size="$3"k,mode=700 tmpfs "$2" && exec "$0" -c "$1" "$2"'
    command = [*prefix, "sh", "-c", script, sys.executable, code, str(disk), str(n_kib)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
