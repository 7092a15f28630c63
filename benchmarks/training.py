"""ck against PyTorch in training: tokens per second of whole steps, memory, share of the processor's peak.

    pip install 'ck-engine[train]'
    python benchmarks/training.py [--presets NAMES] [--peers NAMES] [--pairs N] [--threads N]

Model, first weights, batch, optimizer (AdamW, clip 1) and threads are the same: a `llama` template, on the
other side transformers' model of it with its own fused attention and PyTorch's fused AdamW. A pair runs ck
and a peer one after the other, each first in every second pair, each in a process of its own that warms up
and then times whole steps; figures are medians over the pairs, ratios (ck's rate over the peer's) are taken
within each pair. torch.compile gets its compilation for free. The loss of the last step is compared: both
sides do the same work. Results: a table on standard output, and DIR/training.json and DIR/training.md.
--check: exit code 5 when ck in f32 is slower than eager PyTorch in f32 on any preset.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from measure import ROOT, Spread, run, situation

from ck.errors import CkError, GateError, MachineError

WORKER = Path(__file__).with_name("training_worker.py")
OURS = {"f32": "ck-f32", "bf16": "ck-bf16"}
PEERS = ("eager-f32", "compile-f32", "eager-bf16", "compile-bf16")


@dataclass(frozen=True)
class Preset:
    """A model and a batch."""

    layers: int
    embed_dim: int
    hidden_dim: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    seq: int
    batch: int

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads

    @property
    def flops(self) -> int:
        """Of one step: products and attention, forward and twice that backward, causal pairs only."""
        heads, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        layer = self.embed_dim * (2 * heads + 2 * kv) + 3 * self.embed_dim * self.hidden_dim
        products = 2 * (self.layers * layer + self.vocab_size * self.embed_dim) * self.seq * self.batch
        # Two products forward and five backward over half of T x T.
        attention = 7 * self.batch * self.layers * heads * self.seq * self.seq
        return 3 * products + attention


PRESETS = {
    "L16-d128-b1": Preset(16, 128, 512, 8, 4, 1024, 512, 1),
    "L16-d128-b8": Preset(16, 128, 512, 8, 4, 1024, 512, 8),
    "L12-d512-b1": Preset(12, 512, 1536, 8, 4, 8192, 512, 1),
    "L12-d512-b8": Preset(12, 512, 1536, 8, 4, 8192, 512, 8),
    "L4-d96-b1": Preset(4, 96, 192, 6, 3, 1024, 64, 1),
}


def side(name: str, preset: Preset, threads: int) -> dict[str, float]:
    """One process: tokens/s (median step), seconds of the median step, peak memory, last loss."""
    done = run([sys.executable, WORKER, name, json.dumps(asdict(preset)), str(threads)])
    figures: dict[str, float] = json.loads(done.out.splitlines()[-1])
    return figures | {"peak_mb": done.peak_rss_bytes / 1e6}


def peak_flops(threads: int) -> float:
    """f32 FLOP/s of multiply-adds the processor reaches on `threads` threads: runtime_c/bench/bench_fma.c."""
    done = run([sys.executable, ROOT / "runtime_c" / "build.py", "--bench", "fma"])
    found = re.search(rb"one thread: ([\d.]+) GFLOP/s", done.out)
    if not found:
        raise MachineError("bench_fma: a rate is required, it printed none")
    return float(found[1]) * 1e9 * threads


def compare(preset: Preset, peer: str, pairs: int, threads: int) -> dict[str, Any]:
    """The row of one peer on one preset."""
    ours = OURS[peer.partition("-")[2]]
    taken: dict[str, list[dict[str, float]]] = {ours: [], peer: []}
    for pair in range(pairs):
        for name in (ours, peer) if pair % 2 == 0 else (peer, ours):
            taken[name].append(side(name, preset, threads))
    mine, theirs = taken[ours], taken[peer]
    gap = abs(mine[-1]["loss"] - theirs[-1]["loss"])
    return {
        "peer": peer,
        "ck": asdict(Spread.of([each["tokens_per_second"] for each in mine])),
        "theirs": asdict(Spread.of([each["tokens_per_second"] for each in theirs])),
        "ratio": asdict(
            Spread.of(
                [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(mine, theirs, strict=True)]
            )
        ),
        "ck_peak_mb": max(each["peak_mb"] for each in mine),
        "their_peak_mb": max(each["peak_mb"] for each in theirs),
        "ck_step_s": Spread.of([each["step_s"] for each in mine]).median,
        "their_step_s": Spread.of([each["step_s"] for each in theirs]).median,
        "loss_difference": gap,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    heads = ("preset", "peer", "ck tok/s", "peer tok/s", "ratio (least to greatest)", "ck / peer MB")
    heads += ("share of f32 peak: ck / peer", "loss differs by")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        ratio = row["ratio"]
        lines.append(
            f"| {row['preset']} | {row['peer']} | {row['ck']['median']:.0f} | {row['theirs']['median']:.0f} "
            f"| **{ratio['median']:.2f}** ({ratio['least']:.2f} to {ratio['greatest']:.2f}) "
            f"| {row['ck_peak_mb']:.0f} / {row['their_peak_mb']:.0f} "
            f"| {row['ck_share']:.0%} / {row['their_share']:.0%} | {row['loss_difference']:.1e} |"
        )
    return "\n".join(lines)


def check(rows: Sequence[dict[str, Any]]) -> None:
    """Raise GateError where ck in f32 is slower than eager PyTorch in f32."""
    slow = [
        f"{row['preset']} {row['ratio']['median']:.2f}"
        for row in rows
        if row["peer"] == "eager-f32" and row["ratio"]["median"] < 1
    ]
    if slow:
        raise GateError(f"training: f32 must not be slower than eager PyTorch, found {', '.join(slow)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default=",".join(PRESETS), help="comma-separated; all by default")
    parser.add_argument("--peers", default="eager-f32", help=f"comma-separated, of {', '.join(PEERS)}")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


def main() -> None:
    """The command line."""
    given = arguments()
    peak = peak_flops(given.threads)
    rows: list[dict[str, Any]] = []
    for name in given.presets.split(","):
        preset = PRESETS[name]
        for peer in given.peers.split(","):
            row = {"preset": name, **compare(preset, peer, given.pairs, given.threads)}
            for who in ("ck", "their"):
                row[f"{who}_share"] = preset.flops / row[f"{who}_step_s"] / peak
            rows.append(row)
            print(f"{name} {peer}: {row['ratio']['median']:.2f}", file=sys.stderr, flush=True)
    facts = {**situation(), "threads": given.threads, "pairs": given.pairs, "peak_gflops": peak / 1e9}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "training.json").write_text(json.dumps({"situation": facts, "rows": rows}, indent=1))
    text = "\n".join([*(f"{key}: {value}" for key, value in facts.items()), "", table(rows), ""])
    (given.out / "training.md").write_text(text)
    print(text)
    if given.check:
        check(rows)


if __name__ == "__main__":
    try:
        main()
    except CkError as error:
        print(f"training: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
