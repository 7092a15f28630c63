"""Do `ck eval ppl` and `kld` say of a model in every storage type what llama-perplexity says of it.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/peers/check_eval.py [--model MODEL] [--types NAMES] [--chunks N] [--text FILE]

The model is written by llama-quantize in f32 and from that in each type, with the mixes that its names mean.
Of each file, on the first N windows of 512 tokens of the text (by default the documents that come with
llama.cpp), caches in f16:

    base     the file's own numbers in f32: llama-perplexity on what llama-quantize makes of it again, which
             gives their PPL and writes their log probabilities
    peer     `llama-perplexity --kl-divergence` on the file, against that base
    ck       `ck eval kld` on the file, against it as well, with rows of 15 bits and of 8 (--activations q8)

ck's PPL is within LIMIT of the base's, its mean KLD from the base at most RATIO times the peer's, or below
FLOOR, where 16 bits hide it; with rows of 8 bits its mean KLD is at most RATIO times the peer's too. The peer
rounds activations to 8 bits, so its PPL of the file departs from that of the file's numbers; by how much is
in the table, and nothing that ck is held to. A table on standard output, and eval.json and eval.md in the
folder --out; exit code 5 when ck is further apart.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import llama_cpp
from outcome import add_common, ended, keep

from ck.errors import GateError, UsageError
from ck.runtime.library import isa_path
from ck.runtime.machine import cpu_name
from ck.runtime.paths import private_dir
from ck.runtime.resolve import resolve_model

TYPES = (
    "F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K",
    "IQ4_NL", "IQ4_XS",
)  # fmt: skip
LENGTH = 512
LIMIT, RATIO, FLOOR = 1e-3, 1.05, 1e-5
FIGURE = re.compile(r"^(Mean [^:]*?) *: *(\S+) ± *(\S+)", re.MULTILINE)
FINAL = re.compile(r"Final estimate: PPL = (\S+)")


@dataclass(frozen=True)
class Found:
    """What was found of one file: PPL of the base, the peer, ck and ck with rows of 8 bits, the peer's
    uncertainty of ln(PPL(Q)/PPL(base)), and the mean KLD of the three from the base."""

    storage: str
    base: float
    peer: float
    ck: float
    eight: float
    spread: float
    peer_kld: float
    ck_kld: float
    eight_kld: float

    @property
    def passed(self) -> bool:
        most = max(RATIO * self.peer_kld, FLOOR)
        return abs(self.ck / self.base - 1) <= LIMIT and max(self.ck_kld, self.eight_kld) <= most


def run(*words: str | Path) -> str:
    """What a program prints, on both streams. Raises GateError with its last line when it fails."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise GateError(f"{words[0]}: must end well, exit code {done.returncode}, {lines[-1]}")
    return f"{done.stdout}\n{done.stderr}"


def ck_eval(*words: str | Path) -> dict[str, Any]:
    """The JSON of `ck eval`, in a process of its own."""
    text = run(sys.executable, "-m", "ck.cli.main", "eval", *words, "--json")
    return json.JSONDecoder().raw_decode(text)[0]


def requantise(source: Path, out: Path, storage: str, threads: int) -> Path:
    """`source` as llama-quantize stores it in the mix of that name."""
    run(llama_cpp.program("llama-quantize"), "--allow-requantize", source, out, storage, str(threads))
    return out


def compare(path: Path, storage: str, text: Path, chunks: int, threads: int) -> Found:
    """One file, which goes away."""
    whole, base = path.with_suffix(".f32.gguf"), path.with_suffix(".dat")
    common = ("-f", text, "-c", str(LENGTH), "--chunks", str(chunks), "-t", str(threads))
    common = (*common, "--kl-divergence-base", base)
    peer = llama_cpp.program("llama-perplexity")
    requantise(path, whole, "F32", threads)
    saved = FINAL.findall(run(peer, "-m", whole, *common))
    whole.unlink()
    lines = FIGURE.findall(run(peer, "-m", path, "--kl-divergence", *common))
    figures = {name: (float(value), float(spread)) for name, value, spread in lines}
    ours, eight = (
        ck_eval("kld", path, "--base", base, "-t", str(threads), "--activations", rows)
        for rows in ("q16", "q8")
    )
    base.unlink()
    path.unlink()
    return Found(
        storage, base=float(saved[0]), peer=figures["Mean PPL(Q)"][0], ck=ours["ppl"]["value"],
        spread=figures["Mean ln(PPL(Q)/PPL(base))"][1], peer_kld=figures["Mean    KLD"][0],
        ck_kld=ours["kld_mean"]["value"], eight=eight["ppl"]["value"], eight_kld=eight["kld_mean"]["value"],
    )  # fmt: skip


def default_text(folder: Path) -> Path:
    """The documents of llama.cpp's source, one behind the other."""
    source = llama_cpp.fetch_source(private_dir(llama_cpp.folder()))
    out = folder / "text"
    pages = sorted((source / "docs").rglob("*.md"))
    out.write_bytes(b"".join(page.read_bytes() for page in pages))
    return out


def line(found: Found) -> str:
    """A row of the table."""
    ours, eight, peers = (
        f"{100 * (ppl / found.base - 1):+.3f} %" for ppl in (found.ck, found.eight, found.peer)
    )
    cells = [found.storage, "pass" if found.passed else "FAIL", f"{found.base:.4f}", ours, eight]
    cells += [f"{peers} ± {100 * found.spread:.3f}"]
    cells += [f"{kld:.6f}" for kld in (found.ck_kld, found.eight_kld, found.peer_kld)]
    return f"| {' | '.join(cells)} |"


def table(result: dict[str, Any], rows: list[Found]) -> str:
    """The result as Markdown."""
    head = (
        "| file | | PPL: llama.cpp, in f32 | from it: ck | ck, q8 | llama.cpp "
        "| KLD: ck | ck, q8 | llama.cpp |"
    )
    told = (
        f"{result['model']}, {result['chunks']} windows of {LENGTH}; {result['peer']}; {result['cpu']}, "
        f"{result['isa']}"
    )
    return "\n".join([told, "", head, "|---" * 9 + "|", *map(line, rows)]) + "\n"


def measure(args: argparse.Namespace, types: list[str]) -> list[Found]:
    """Every type, one after the other."""
    model, rows = resolve_model(args.model), list[Found]()
    with tempfile.TemporaryDirectory(prefix="ck-eval-") as name:
        folder = Path(name)
        text = args.text or default_text(folder)
        whole = requantise(model, folder / "whole.gguf", "F32", args.threads)
        for storage in types:
            path = requantise(whole, folder / f"{storage}.gguf", storage, args.threads)
            rows.append(compare(path, storage, text, args.chunks, args.threads))
            print(line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compare ck eval with llama-perplexity in every storage type."
    )
    parser.add_argument("--model", default="smollm2-135m", help="a GGUF file or a known name")
    parser.add_argument(
        "--types", default="", help="names of llama-quantize, separated by commas; default: all"
    )
    parser.add_argument("--chunks", type=int, default=16, help=f"windows of {LENGTH} tokens")
    parser.add_argument("--text", type=Path, help="default: the documents of llama.cpp's source")
    add_common(parser)
    return parser.parse_args()


def check_all(args: argparse.Namespace) -> None:
    """Compare, keep what was found and raise GateError when something differs."""
    types = args.types.split(",") if args.types else [*TYPES]
    if unknown := [name for name in types if name not in TYPES]:
        raise UsageError(f"--types: one of {', '.join(TYPES)} is required, found {unknown[0]}")
    rows = measure(args, types)
    result = {
        "schema_version": 1, "model": args.model, "chunks": args.chunks, "peer": llama_cpp.describe(),
        "cpu": cpu_name(), "isa": isa_path(),
        "rows": [{**asdict(row), "passed": row.passed} for row in rows],
    }  # fmt: skip
    keep(args.out, "eval", result, table(result, rows))
    print(table(result, rows), end="")
    if failed := [row.storage for row in rows if not row.passed]:
        raise GateError(f"ck must measure the file's own numbers, it does not of: {', '.join(failed)}")


def main() -> int:
    args = arguments()
    return ended(__file__, lambda: check_all(args))


if __name__ == "__main__":
    sys.exit(main())
