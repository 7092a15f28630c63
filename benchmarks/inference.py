"""ck against llama.cpp on the demo models: prompt and decode rates, time to the first token, memory.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/inference.py [--models NAMES] [--pairs N] [--threads N]

A pair runs both programs one after the other, each first in every second pair; figures are medians over the
pairs, ratios are taken within each pair. Above 1 ck is better: a ratio is ck's rate over llama.cpp's, or
llama.cpp's time or memory over ck's. Both sides run once unmeasured, so files are in the page cache and ck's
program is compiled. Results: a table on standard output, and DIR/inference.json and DIR/inference.md.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import CK, ROOT, Run, Spread, run, situation
from peers import llama_cpp

from ck.errors import CkError, GateError, MachineError
from ck.runtime.resolve import resolve_model

MODELS = ("smollm2-135m", "gemma3-270m")
PROMPT = (ROOT / "tests" / "data" / "prose.txt").read_text()[:1900]
# Acceptance of the first release, ck's median rate over llama.cpp's.
FLOORS = {"prompt 512": 0.5, "decode 128": 0.8}
UNITS = {
    "prompt 512": "tokens/s", "decode 128": "tokens/s", "first token": "s", "load and one word": "s",
    "peak memory": "MB",
}  # fmt: skip

# One side of a pair: everything measured about one program, by the names of UNITS.
Side = Callable[[Path, int, int], dict[str, float]]


def ck(model: Path, threads: int, repetitions: int) -> dict[str, float]:
    """ck's figures for one pair."""
    sizes = ["-p", 512, "-n", 128, "-r", repetitions, "-t", threads]
    bench = run([*CK, "bench", model, *map(str, sizes), "--json"])
    answer = [*CK, "run", model, "-n", "1", "--temp", "0", "-t", str(threads), "--chat-template", "none"]
    return figures(bench, run([*answer, "--prompt", PROMPT]), run([*answer, "--prompt", "The"]))


def llama(model: Path, threads: int, repetitions: int) -> dict[str, float]:
    """llama.cpp's figures for one pair."""
    sizes = ["-p", 512, "-n", 128, "-r", repetitions, "-t", threads]
    bench = run([llama_cpp.program("llama-bench"), "-m", model, *map(str, sizes), "-o", "json"])
    answer = [llama_cpp.program("llama-completion"), "-m", model, "-n", "1", "--temp", "0"]
    answer += ["-t", str(threads), "-no-cnv", "--no-display-prompt", "--simple-io", "--no-warmup"]
    return figures(bench, run([*answer, "-p", PROMPT]), run([*answer, "-p", "The"]))


def figures(bench: Run, long: Run, short: Run) -> dict[str, float]:
    """The named figures of a benchmark's rows (as llama-bench writes them) and of two one-token answers."""
    rows = {(row["n_prompt"], row["n_gen"]): float(row["avg_ts"]) for row in json.loads(bench.out)}
    return {
        "prompt 512": rows[512, 0],
        "decode 128": rows[0, 128],
        "first token": long.first_byte_s,
        "load and one word": short.first_byte_s,
        "peak memory": bench.peak_rss_bytes / 1e6,
    }


def measure(model: Path, pairs: int, threads: int, repetitions: int) -> list[dict[str, Any]]:
    """One row a figure: both sides' values and spreads over the pairs, the spread of the pairs' ratios."""
    sides: tuple[tuple[str, Side], ...] = (("ck", ck), ("llama.cpp", llama))
    for _, side in sides:
        side(model, threads, 1)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name, _ in sides}
    for pair in range(pairs):
        for name, side in sides if pair % 2 == 0 else sides[::-1]:
            taken[name].append(side(model, threads, repetitions))
        print(f"{model.name}: pair {pair + 1} of {pairs}", file=sys.stderr)
    return [row(figure, taken["ck"], taken["llama.cpp"]) for figure in UNITS]


def row(figure: str, ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, Any]:
    """The row of `figure`."""
    a, b = [side[figure] for side in ours], [side[figure] for side in theirs]
    rate = UNITS[figure] == "tokens/s"
    ratios = [x / y if rate else y / x for x, y in zip(a, b, strict=True)]
    return {
        "figure": figure, "unit": UNITS[figure], "floor": FLOORS.get(figure),
        "ck": asdict(Spread.of(a)), "llama.cpp": asdict(Spread.of(b)), "ratio": asdict(Spread.of(ratios)),
        "ck_values": a, "llama.cpp_values": b,
    }  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    facts = result["situation"]
    lines = [
        f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, "
        f"{result['peer']}; {result['pairs']} alternating pairs, {result['threads']} threads, medians.",
        "",
        "| model | figure | ck | llama.cpp | ratio: median (min to max) |",
        "|---|---|---|---|---|",
    ]
    for name, rows in result["models"].items():
        for item in rows:
            digits = 3 if item["unit"] == "s" else 1
            ours, theirs = (f"{item[side]['median']:.{digits}f}" for side in ("ck", "llama.cpp"))
            ratio = item["ratio"]
            spread = f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['greatest']:.2f})"
            lines.append(f"| {name} | {item['figure']}, {item['unit']} | {ours} | {theirs} | {spread} |")
    return "\n".join(lines) + "\n"


def check(result: dict[str, Any]) -> None:
    """Raise GateError when a median ratio lies below its floor."""
    for name, rows in result["models"].items():
        for item in rows:
            got, floor = item["ratio"]["median"], item["floor"]
            if floor is not None and got < floor:
                raise GateError(f"{name}: {item['figure']} must be {floor} of llama.cpp's, is {got:.2f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare ck with llama.cpp on the demo models.")
    parser.add_argument("--models", default=",".join(MODELS), help="names or paths, separated by commas")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3, help="of each rate inside a pair")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", metavar="DIR")
    parser.add_argument("--check", action="store_true", help="fail when a ratio is below its floor")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    try:
        llama_cpp.program("llama-bench")
        models = {Path(name).name: resolve_model(name).absolute() for name in args.models.split(",")}
        rows = {n: measure(m, args.pairs, args.threads, args.repetitions) for n, m in models.items()}
        result = {
            "situation": situation(), "peer": llama_cpp.describe(), "pairs": args.pairs,
            "threads": args.threads, "models": rows,
        }  # fmt: skip
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "inference.json").write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "inference.md").write_text(table(result))
        print(table(result), end="")
        if args.check:
            check(result)
    except (CkError, OSError) as error:
        print(f"inference.py: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CkError) else MachineError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
