"""What the benchmarks share: running a program and timing it, and the description of machine and commit."""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ck.errors import MachineError

ROOT = Path(__file__).parents[1]
CK = (sys.executable, "-m", "ck.cli.main")


@dataclass(frozen=True)
class Run:
    """A finished program: output, seconds from its start to the first byte and to its end, peak memory."""

    out: bytes
    first_byte_s: float
    wall_s: float
    peak_rss_bytes: int


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Run:
    """Run `command` to its end. Raises MachineError, with its last line of errors, when it fails."""
    words = [str(word) for word in command]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT,
                env={**os.environ, **(env or {})},
            )  # fmt: skip
        except OSError as error:
            raise MachineError(f"{words[0]}: cannot be run, {error.strerror}") from error
        assert process.stdout is not None
        first = process.stdout.read(1)
        first_byte_s = time.perf_counter() - start
        out = first + process.stdout.read()
        # Not process.wait(): only wait4 reports the child's own peak memory.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - start
        process.stdout.close()
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else "no message"
            raise MachineError(f"{' '.join(words)}: exit code {process.returncode}, {reason}")
    return Run(out, first_byte_s, wall_s, usage.ru_maxrss * 1024)


@dataclass(frozen=True)
class Spread:
    """The least, the median and the greatest of a few measurements."""

    least: float
    median: float
    greatest: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        return Spread(min(values), statistics.median(values), max(values))


def situation() -> dict[str, str | int]:
    """Date, commit, CPU and compiler: what a figure means nothing without."""
    facts = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    cpu = {key.strip(): value.strip() for key, _, value in facts}
    wanted = ("avx2", "avx512_vnni", "avx512_bf16", "amx_int8")
    flags = [flag for flag in wanted if flag in cpu["flags"].split()]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "cpu": f"{cpu['model name']} ({' '.join(flags)})",
        "cores": os.cpu_count() or 1,
        "system": platform.platform(),
        "compiler": _first_line(os.environ.get("CC", "cc"), "--version"),
    }


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else "unknown"
