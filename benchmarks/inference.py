"""ck against llama.cpp on the demo models: prompt and decode rates, time to the first token, memory.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/inference.py [--models NAMES] [--pairs N] [--threads N]
    python benchmarks/inference.py --types all|NAMES [--activations q8] [--pairs N] [--threads N]

A pair runs both programs one after the other, each first in every second pair; figures are medians over the
pairs, ratios are taken within each pair. Above 1 ck is better: a ratio is ck's rate over llama.cpp's, or
llama.cpp's time or memory over ck's. Both sides run once unmeasured, so files are in the page cache and ck's
program is compiled. Results: a table on standard output, and DIR/inference.json and DIR/inference.md.

With --types the models are SmolLM2 requantised by llama-quantize to each storage type, most of whose rows are
no multiples of 256, so that few of its matrices are of a K type; and for K types also a random model of that
size whose rows are. Of these only rates and memory are measured; results: DIR/types.json and types.md.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from measure import CK, ROOT, Run, Spread, run, situation
from peers import llama_cpp
from random_model import write_model
from shapes import TIED, config, numbers

from ck.dtypes import ACTIVATIONS
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

# A model of SmolLM2's size whose rows hold whole blocks of every type.
WIDE = config("llama", (12, 768, 12, 4, 64, 2048, 49152, 2048), **TIED)

# One side of a pair: everything measured about one program, by the names of UNITS.
Side = Callable[[Path, int, int], dict[str, float]]


def ck_rates(model: Path, threads: int, repetitions: int, *, activations: str) -> dict[str, float]:
    """ck's rates and memory for one pair."""
    sizes = ["-p", 512, "-n", 128, "-r", repetitions, "-t", threads, "--activations", activations]
    return rates(run([*CK, "bench", model, *map(str, sizes), "--json"]))


def ck(model: Path, threads: int, repetitions: int, *, activations: str) -> dict[str, float]:
    """ck's figures for one pair."""
    answer = [*CK, "run", model, "-n", "1", "--temp", "0", "-t", str(threads), "--chat-template", "none"]
    answer += ["--activations", activations]
    long, short = (run([*answer, "--prompt", text]) for text in (PROMPT, "The"))
    return ck_rates(model, threads, repetitions, activations=activations) | answers(long, short)


def llama_rates(model: Path, threads: int, repetitions: int) -> dict[str, float]:
    """llama.cpp's rates and memory for one pair."""
    sizes = ["-p", 512, "-n", 128, "-r", repetitions, "-t", threads]
    return rates(run([llama_cpp.program("llama-bench"), "-m", model, *map(str, sizes), "-o", "json"]))


def llama(model: Path, threads: int, repetitions: int) -> dict[str, float]:
    """llama.cpp's figures for one pair."""
    answer = [llama_cpp.program("llama-completion"), "-m", model, "-n", "1", "--temp", "0"]
    answer += ["-t", str(threads), "-no-cnv", "--no-display-prompt", "--simple-io", "--no-warmup"]
    long, short = (run([*answer, "-p", text]) for text in (PROMPT, "The"))
    return llama_rates(model, threads, repetitions) | answers(long, short)


def rates(bench: Run) -> dict[str, float]:
    """The figures of a benchmark's rows, as llama-bench writes them."""
    rows = {(row["n_prompt"], row["n_gen"]): float(row["avg_ts"]) for row in json.loads(bench.out)}
    return {
        "prompt 512": rows[512, 0],
        "decode 128": rows[0, 128],
        "peak memory": bench.peak_rss_bytes / 1e6,
    }


def answers(long: Run, short: Run) -> dict[str, float]:
    """The figures of two one-token answers."""
    return {"first token": long.first_byte_s, "load and one word": short.first_byte_s}


def measure(
    model: Path, pairs: int, threads: int, repetitions: int, sides: tuple[Side, Side]
) -> list[dict[str, Any]]:
    """One row a figure: both sides' values and spreads over the pairs, the spread of the pairs' ratios."""
    named = tuple(zip(("ck", "llama.cpp"), sides, strict=True))
    for side in sides:
        side(model, threads, 1)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name, _ in named}
    for pair in range(pairs):
        for name, side in named if pair % 2 == 0 else named[::-1]:
            taken[name].append(side(model, threads, repetitions))
        print(f"{model.name}: pair {pair + 1} of {pairs}", file=sys.stderr)
    figures = [figure for figure in UNITS if figure in taken["ck"][0]]
    rows = [row(figure, taken["ck"], taken["llama.cpp"]) for figure in figures]
    found = ", ".join(f"{item['figure']} {item['ratio']['median']:.2f}" for item in rows)
    print(f"{model.name}: {found}", file=sys.stderr)
    return rows


def files_of(types: list[str], threads: int) -> Iterator[Path]:
    """Requantised models, one at a time, each gone when the next is asked for."""
    sources = {"SmolLM2-135M": (resolve_model("smollm2-135m"), types)}
    with tempfile.TemporaryDirectory(prefix="ck-types-") as folder:
        wide = [name for name in types if name in llama_cpp.WIDE_TYPES]
        if wide:
            whole = Path(folder) / "f32.gguf"
            write_model(whole, numbers(WIDE), "f32")
            sources["Random-138M"] = (whole, wide)
        for model, (source, names) in sources.items():
            for name in names:
                out = Path(folder) / f"{model} {name}"
                llama_cpp.quantize(source, out, name, threads)
                yield out
                out.unlink()


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
        f"{result['peer']}; {result['pairs']} alternating pairs, {result['threads']} threads, "
        f"activations {result['activations']}, medians.",
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
    parser.add_argument("--types", default="", help="storage types, separated by commas, or all")
    parser.add_argument("--activations", choices=ACTIVATIONS, default="q16", help="ck's rows, as its option")
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
        given = (args.pairs, args.threads, args.repetitions)
        if args.types:
            files = files_of(llama_cpp.chosen_types(args.types), args.threads)
            sides = partial(ck_rates, activations=args.activations), llama_rates
            rows = {file.name: measure(file, *given, sides) for file in files}
        else:
            models = {Path(name).name: resolve_model(name).absolute() for name in args.models.split(",")}
            sides = partial(ck, activations=args.activations), llama
            rows = {name: measure(model, *given, sides) for name, model in models.items()}
        result = {
            "situation": situation(), "peer": llama_cpp.describe(), "pairs": args.pairs,
            "threads": args.threads, "activations": args.activations, "models": rows,
        }  # fmt: skip
        args.out.mkdir(parents=True, exist_ok=True)
        stem = "types" if args.types else "inference"
        (args.out / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
        (args.out / f"{stem}.md").write_text(table(result))
        print(table(result), end="")
        if args.check:
            check(result)
    except (CkError, OSError) as error:
        print(f"inference.py: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CkError) else MachineError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
