"""LLVM against C: speed of the programs, time to compile them, time to load them.

    python benchmarks/backends.py [--models NAMES] [--pairs N] [--threads N] [--check]

prompt, decode   tokens a second: 512 into an empty cache, and 64 after them; a pair runs one backend and then
                 the other in one process, each first in every second pair
step             tokens a second of whole training steps on presets of benchmarks/training.py, likewise
cold compile     whole processes with an empty cache: `ck compile MODEL`, and the training program of a preset
cached, s        from before `import ck` to a model that can take its first token, the program from the cache,
                 less the time in which its weights are packed, which is the same for both
object, s        from the stored file to the addresses of its entries, with the imports that this takes

Ratios are taken within a pair, C's time over LLVM's or LLVM's rate over C's: above 1 LLVM is better. Results:
a table on standard output, and DIR/backends.json and DIR/backends.md. --check: exit code 5 when a median
ratio of speeds is below 0.95, LLVM compiles slower than C, or loads in 0.3 s or more.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measure import CK, ROOT, Spread, run, situation
from training import PRESETS

from ck.errors import CkError, GateError, MachineError
from ck.runtime.resolve import resolve_model

WORKER = Path(__file__).with_name("backends_worker.py")
MODELS = ("smollm2-135m", "gemma3-270m")
STEPS = ("L16-d128-b1", "L4-d96-b1")
C, LLVM = "c", "llvm"
SPEED_FLOOR, COLD_FLOOR, CACHED_LIMIT_S = 0.95, 1.0, 0.3

Row = dict[str, Any]


def worker(*words: object, env: dict[str, str] | None = None) -> Any:
    """What one process of the worker finds."""
    done = run([sys.executable, WORKER, *map(str, words)], env)
    return json.loads(done.out.splitlines()[-1])


def row(subject: str, figure: str, unit: str, c: Sequence[float], llvm: Sequence[float]) -> Row:
    """One figure of both, and their ratio pair by pair."""
    is_rate = unit == "tokens/s"
    ratios = [b / a if is_rate else a / b for a, b in zip(c, llvm, strict=True)]
    spreads = {name: asdict(Spread.of(values)) for name, values in ((C, c), (LLVM, llvm), ("ratio", ratios))}
    return {"subject": subject, "figure": figure, "unit": unit, **spreads}


def speeds(models: dict[str, Path], pairs: int, threads: int) -> list[Row]:
    """Rates of the models' programs and of training steps."""
    found = {name: worker("speed", path, threads, pairs) for name, path in models.items()}
    sizes = {name: json.dumps(asdict(PRESETS[name])) for name in STEPS}
    found |= {name: worker("step", text, threads, pairs) for name, text in sizes.items()}
    return [
        row(subject, figure, "tokens/s", rates[C], rates[LLVM])
        for subject, figures in found.items()
        for figure, rates in figures.items()
    ]


def cold(models: dict[str, Path], pairs: int) -> list[Row]:
    """Seconds of whole processes that find an empty cache."""
    rows: list[Row] = []
    for name, path in models.items():
        command = [*CK, "compile", str(path), "--backend"]
        rows.append(alternate(name, "cold compile", pairs, lambda by, words=command: timed([*words, by])))
    for name in STEPS:
        command = [sys.executable, str(WORKER), "train", json.dumps(asdict(PRESETS[name]))]
        rows.append(alternate(name, "cold compile", pairs, lambda by, words=command: timed([*words, by])))
    return rows


def timed(command: list[str]) -> float:
    """Seconds of a process with a cache of its own."""
    with tempfile.TemporaryDirectory(prefix="ck-bench-") as folder:
        return run(command, {"CK_CACHE_DIR": folder}).wall_s


def alternate(subject: str, figure: str, pairs: int, measure: Callable[[str], float]) -> Row:
    """A row of seconds; the first turn of each brings files into the page cache."""
    taken: dict[str, list[float]] = {C: [], LLVM: []}
    for pair in range(pairs + 1):
        for name in (C, LLVM) if pair % 2 else (LLVM, C):
            seconds = measure(name)
            if pair:
                taken[name].append(seconds)
    return row(subject, figure, "s", taken[C], taken[LLVM])


def loading(models: dict[str, Path], pairs: int) -> list[Row]:
    """Seconds to load from the cache."""
    rows: list[Row] = []
    for model, path in models.items():

        def program(by: str, path: Path = path) -> float:
            found = worker("ready", path, by)
            return found["ready_s"] - found["pack_s"]

        rows.append(alternate(model, "cached", pairs, program))
        files: dict[str, str] = {}
        for by in (C, LLVM):
            facts = run([*CK, "compile", str(path), "--backend", by, "--json"])
            files[by] = json.loads(facts.out)["program"]

        def load(by: str, files: dict[str, str] = files) -> float:
            return worker("object", files[by], by)["object_s"]

        rows.append(alternate(model, "object", pairs, load))
    return rows


def measure(models: dict[str, Path], pairs: int, threads: int) -> dict[str, Any]:
    """Everything, as it goes into the file."""
    rows = [*speeds(models, pairs, threads), *cold(models, max(3, pairs // 3)), *loading(models, pairs)]
    facts = {"llvmlite": version("llvmlite"), "threads": threads, "pairs": pairs}
    return {"situation": situation() | facts, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    facts = result["situation"]
    lines = [
        f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['compiler']}, llvmlite "
        f"{facts['llvmlite']}; {facts['threads']} threads, medians of {facts['pairs']} pairs.",
        "",
        "| program | figure | C | LLVM | ratio: median (min to max) |",
        "|---|---|---|---|---|",
    ]
    for each in result["rows"]:
        ratio = "{median:.3f} ({least:.3f} to {greatest:.3f})".format(**each["ratio"])
        digits = 1 if each["unit"] == "tokens/s" else 4
        values = " | ".join(f"{each[name]['median']:.{digits}f}" for name in (C, LLVM))
        lines.append(f"| {each['subject']} | {each['figure']}, {each['unit']} | {values} | {ratio} |")
    return "\n".join(lines) + "\n"


def check(rows: Sequence[Row]) -> None:
    """Raise GateError with every figure that is not reached."""
    missed: list[str] = []
    for each in rows:
        ratio, seconds = each["ratio"]["median"], each[LLVM]["median"]
        what = f"{each['subject']} {each['figure']}"
        if each["unit"] == "tokens/s" and ratio < SPEED_FLOOR:
            missed.append(f"{what} {ratio:.3f} of C's, {SPEED_FLOOR} is required")
        elif each["figure"] == "cold compile" and ratio < COLD_FLOOR:
            missed.append(f"{what} in {1 / ratio:.3f} of C's time, at most 1 is required")
        elif each["figure"] == "cached" and seconds >= CACHED_LIMIT_S:
            missed.append(f"{what} in {seconds:.3f} s, less than {CACHED_LIMIT_S} is required")
    if missed:
        raise GateError(f"LLVM: {'; '.join(missed)}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare the backends.")
    parser.add_argument("--models", default=",".join(MODELS), help="names or paths, a comma list")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", metavar="DIR")
    parser.add_argument("--check", action="store_true", help="fail when a figure is not reached")
    args = parser.parse_args()
    try:
        models = {Path(name).stem: resolve_model(name).absolute() for name in args.models.split(",")}
        result = measure(models, args.pairs, args.threads)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "backends.json").write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "backends.md").write_text(table(result))
        print(table(result), end="")
        if args.check:
            check(result["rows"])
    except (CkError, OSError) as error:
        print(f"backends.py: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CkError) else MachineError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
