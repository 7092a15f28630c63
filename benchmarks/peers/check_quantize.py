"""Does `ck quantize` write llama-quantize's bytes, and does `ck imatrix` measure what llama-imatrix does.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/peers/check_quantize.py [MODEL] [--types NAMES] [--chunks N] [--out DIR] [--threads N]

MODEL, SmolLM2-135M where none is given, becomes a file of f16. Of that:

    imatrix    sums of both programs over the first N windows of 512 tokens of TEXT, in f16 and in Q8_0, where
               llama.cpp rounds activations to 8 bits: of each matrix, how far they are apart, as a part of
               their length; at most LIMITS
    files      of every type, by both programs, without and with llama-imatrix's matrix: the same bytes; then
               llama.cpp loads ck's and goes on from a prompt

A table on standard output, and DIR/quantize.json and DIR/quantize.md; exit code 5 when something differs.
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from check_export import ask
from outcome import BUILD, add_common, ended, keep

from ck.errors import GateError
from ck.frontend.gguf import GgufFile
from ck.frontend.quantize.mixes import FILE_TYPES
from ck.runtime.machine import cpu_name

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "docs" / "verification.md"
WINDOW = 512
# Of the sums of a matrix, the greatest and the median distance, where activations are f16 and where 8 bits.
LIMITS = {"F16": (2e-3, 2e-4), "Q8_0": (2e-2, 2e-3)}
PROMPT, STEPS = b"1 504 2365 2290 30216", 8


@dataclass(frozen=True)
class Written:
    """One type: whether both files are the same, their bytes, the seconds of (ck, llama-quantize)."""

    type: str
    matrix: bool
    equal: bool
    n_bytes: int
    seconds: tuple[float, float]
    loads: bool


@dataclass(frozen=True)
class Measured:
    """How far the sums of `n` matrices are apart, in a file of `type`."""

    type: str
    n: int
    greatest: float
    median: float

    @property
    def passed(self) -> bool:
        greatest, median = LIMITS[self.type]
        return self.greatest <= greatest and self.median <= median


def run(*words: str | Path) -> float:
    """Run a program; its seconds. Raises GateError with the last line it says when it fails."""
    start = time.perf_counter()
    done = subprocess.run([str(word) for word in words], capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise GateError(f"{Path(words[0]).name}: must end well, exit code {done.returncode}, {lines[-1]}")
    return time.perf_counter() - start


def ck(*words: str | Path) -> float:
    """Run `ck`."""
    return run(sys.executable, "-m", "ck.cli.main", *words)


def measure(source: Path, folder: Path, kind: str, args: argparse.Namespace) -> Measured:
    """Both programs' sums of the model in a file of type `kind`; llama-imatrix's stay in the folder."""
    model, theirs, ours = source, folder / "imatrix.gguf", folder / "ours.gguf"
    if kind != "F16":
        model, theirs = folder / f"{kind}.gguf", folder / f"imatrix-{kind}.gguf"
        ck("quantize", source, model, "--type", kind)
    words = (
        "-f",
        folder / "text.md",
        "-c",
        str(WINDOW),
        "--chunks",
        str(args.chunks),
        "-t",
        str(args.threads),
    )
    # Else it reads two characters of a text as a newline.
    run(llama_cpp.program("llama-imatrix"), "-m", model, *words, "--no-ppl", "--no-escape", "-o", theirs)
    ck("imatrix", model, *words, "-o", ours, "--force")
    first, second = GgufFile(ours), GgufFile(theirs)
    if list(first.tensors) != list(second.tensors):
        raise GateError(f"{kind}: the matrices must be llama-imatrix's, others are there")
    distances = [
        distance(first.raw(name).view(np.float32), second.raw(name).view(np.float32))
        for name in first.tensors
    ]
    return Measured(kind, len(distances) // 2, max(distances), float(np.median(distances[::2])))


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """As a part of the length of `theirs`."""
    return float(np.linalg.norm(ours.astype(np.float64) - theirs) / np.linalg.norm(theirs.astype(np.float64)))


def write(source: Path, folder: Path, kind: str, matrix: bool, args: argparse.Namespace) -> Written:
    """The file of type `kind` by both programs."""
    ours, theirs = folder / "ck.gguf", folder / "llama.gguf"
    weighted = ("--imatrix", folder / "imatrix.gguf") if matrix else ()
    threads = str(args.threads)
    peer = run(llama_cpp.program("llama-quantize"), *weighted, source, theirs, kind, threads)
    own = ck("quantize", source, ours, "--type", kind, *weighted, "--force", "-t", threads)
    loads = len(ask(ours, "greedy", str(STEPS), threads, stdin=PROMPT)) == STEPS
    same = filecmp.cmp(ours, theirs, shallow=False)
    return Written(kind, matrix, same, ours.stat().st_size, (own, peer), loads)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Everything compared, as JSON, `passed` among it; a row is printed when it is made."""
    with tempfile.TemporaryDirectory(prefix="ck-quantize-") as place:
        folder, source = Path(place), Path(place) / "source.gguf"
        # Both programs are to read the same, whoever writes on it meanwhile.
        shutil.copy(TEXT, folder / "text.md")
        ck("quantize", args.model, source, "--type", "F16", "--allow-requantize")
        measured = [measure(source, folder, kind, args) for kind in LIMITS]
        for each in measured:
            print(sums_of(each), flush=True)
        written = list[Written]()
        for kind in args.types:
            for matrix in (False, True):
                written.append(write(source, folder, kind, matrix, args))
                print(row_of(written[-1]), flush=True)
    return {
        "schema_version": 1, "model": args.model, "peer": llama_cpp.describe(), "machine": cpu_name(),
        "passed": all(each.passed for each in measured) and all(e.equal and e.loads for e in written),
        "text": str(TEXT.relative_to(ROOT)), "chunks": args.chunks,
        "imatrix": [asdict(each) | {"passed": each.passed} for each in measured],
        "files": [asdict(each) for each in written],
    }  # fmt: skip


def sums_of(each: Measured) -> str:
    """A line about sums."""
    return f"sums of {each.n} matrices in {each.type}: {each.greatest:.1e} apart, median {each.median:.1e}"


def row_of(each: Written) -> str:
    """A row of the table."""
    own, peer = each.seconds
    equal, loads = ("equal" if each.equal else "DIFFERENT"), ("loads" if each.loads else "DOES NOT LOAD")
    kind = f"{each.type} {'with' if each.matrix else 'without'} matrix"
    return f"| {kind} | {each.n_bytes / 2**20:.1f} MiB | {equal} | {loads} | {own:.1f} s | {peer:.1f} s |"


def check(result: dict[str, Any]) -> None:
    """Raise GateError, naming the first difference."""
    for each in result["imatrix"]:
        if not each["passed"]:
            raise GateError(
                f"{each['type']}: sums must be within {LIMITS[each['type']]} of llama-imatrix's, they are "
                f"{each['greatest']:.1e}, median {each['median']:.1e}"
            )
    for each in result["files"]:
        if not (each["equal"] and each["loads"]):
            raise GateError(f"{each['type']}: the file must be llama-quantize's and load, it does not")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare ck quantize and ck imatrix with llama.cpp's tools.")
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="a GGUF file or a known name")
    known = [each.name for each in FILE_TYPES.values() if each.name != "F16"]
    parser.add_argument("--types", type=lambda words: words.split(","), default=known)
    parser.add_argument("--chunks", type=int, default=8, help="windows of the text")
    add_common(parser, BUILD / "quantize")
    return parser.parse_args()


def check_all(args: argparse.Namespace) -> None:
    """Compare, keep what was found and raise GateError when something differs."""
    result = compare(args)
    rows = [row_of(Written(**each)) for each in result["files"]]
    head = ["| type | size | bytes | in llama.cpp | ck | llama-quantize |", "|---|---|---|---|---|---|"]
    keep(args.out, "quantize", result, "\n".join([*head, *rows]) + "\n")
    check(result)


def main() -> int:
    args = arguments()
    return ended(__file__, lambda: check_all(args))


if __name__ == "__main__":
    sys.exit(main())
