"""How long a model takes from process start to a loaded program, and what it keeps in memory.

    python benchmarks/compile_time.py [--model NAME] [--repetitions N] [--check]

cold     an empty program cache
cached   the program is in the cache, and the C compiler fails when it is started; both with backend c
help     `ck --help`
memory   resident bytes of a program from the cache that has read a prompt, its KV cache written in full,
         above those of an idle `import ck.runtime`, as a multiple of packed weights and KV cache

Files are in the page cache; times are medians from the start of the process. Results: a table on standard
output, and DIR/compile_time.json.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import CK, ROOT, Spread, run, situation

from ck.errors import CkError, GateError, MachineError
from ck.runtime.resolve import resolve_model

LIMITS = {"cold, s": 3.0, "cached, s": 0.5, "help, s": 0.2, "memory, ratio": 1.15}
LOAD = "import sys, ck; ck.compile(sys.argv[1], backend='c')"
# The program cache's key holds the compiler's path, time and size, so one script serves both runs.
COMPILER = """#!/bin/sh
if [ -n "$CK_BENCH_NO_CC" ]; then echo "the compiler was started" >&2; exit 1; fi
exec {real} "$@"
"""


def load_times(model: Path, repetitions: int) -> dict[str, list[float]]:
    """Seconds from process start to a loaded program: `repetitions` without and with a cached one."""
    real = shutil.which(os.environ.get("CC", "cc"))
    if real is None:
        raise MachineError("compile_time.py: needs a C compiler, cc is missing; run: apt-get install gcc")
    times: dict[str, list[float]] = {"cold, s": [], "cached, s": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compiler = folder / "bin" / "cc"
        compiler.parent.mkdir()
        compiler.write_text(COMPILER.format(real=real))
        compiler.chmod(0o755)
        env = {"PATH": f"{compiler.parent}:{os.environ['PATH']}", "CC": "cc"}
        command = [sys.executable, "-c", LOAD, model]
        for turn in range(repetitions + 1):
            env["CK_CACHE_DIR"] = str(folder / f"cache-{turn}")
            cold = run(command, env).wall_s
            cached = run(command, env | {"CK_BENCH_NO_CC": "1"}).wall_s
            # The first turn brings files into the page cache.
            if turn > 0:
                times["cold, s"].append(cold)
                times["cached, s"].append(cached)
    return times


def help_times(repetitions: int) -> list[float]:
    """Seconds of `ck --help`."""
    return [run([*CK, "--help"]).wall_s for _ in range(repetitions + 1)][1:]


def memory(model: Path) -> dict[str, float]:
    """Bytes of the idle and the loaded process, and their difference over what the model must hold."""
    probe = [sys.executable, ROOT / "benchmarks" / "resident.py"]
    run([sys.executable, "-c", LOAD, model])
    facts = json.loads(run(probe).out) | json.loads(run([*probe, model]).out)
    needed = facts["packed_weights"] + facts["kv"]
    return facts | {"ratio": (facts["full"] - facts["idle"]) / needed}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    facts = result["situation"]
    lines = [
        f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['compiler']}; {result['model']}, "
        f"median of {result['repetitions']}.",
        "",
        "| figure | median (min to max) | limit |",
        "|---|---|---|",
    ]
    for figure, spread in result["spreads"].items():
        values = "{median:.3f} ({least:.3f} to {greatest:.3f})".format(**spread)
        lines.append(f"| {figure} | {values} | {LIMITS[figure]} |")
    megabytes = {key: value / 1e6 for key, value in result["memory"].items() if key != "ratio"}
    lines += ["", "Memory, MB: " + ", ".join(f"{key} {value:.1f}" for key, value in megabytes.items()) + "."]
    return "\n".join(lines) + "\n"


def measure(model: Path, repetitions: int) -> dict[str, Any]:
    """Everything, as it goes into the file."""
    values = load_times(model, repetitions) | {"help, s": help_times(repetitions)}
    taken = memory(model)
    values["memory, ratio"] = [taken["ratio"]]
    return {
        "situation": situation(),
        "model": model.name,
        "repetitions": repetitions,
        "spreads": {figure: vars(Spread.of(each)) for figure, each in values.items()},
        "values": values,
        "memory": taken,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure loading times and memory.")
    parser.add_argument("--model", default="smollm2-135m", help="name or path")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", metavar="DIR")
    parser.add_argument("--check", action="store_true", help="fail when a figure is above its limit")
    args = parser.parse_args()
    try:
        result = measure(resolve_model(args.model).absolute(), args.repetitions)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "compile_time.json").write_text(json.dumps(result, indent=1) + "\n")
        print(table(result), end="")
        for figure, limit in LIMITS.items():
            got = result["spreads"][figure]["median"]
            if args.check and got > limit:
                raise GateError(f"{figure} must be at most {limit}, is {got:.3f}")
    except (CkError, OSError) as error:
        print(f"compile_time.py: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CkError) else MachineError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
