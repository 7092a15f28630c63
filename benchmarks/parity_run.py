"""Whether a run in ck ends where the same run in PyTorch does: dev bits per byte of both, and their ratio.

    python benchmarks/parity_run.py NAME DATA... [--template FAMILY] [--steps N] [--config FILE]
        [--set section.key=value] [--limit 0.01] [--out DIR]

The run is made as `ck train` makes it, in the run directory NAME, or taken from there when it is finished;
then PyTorch trains the same weights on the same batches, f32 and eager, to the same number of steps. Exit
code 5 when the two differ by more than the limit. Results: a table on standard output, and
DIR/parity_run.json.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from measure import ROOT, situation

from ck.errors import CkError, GateError, MachineError, UsageError
from ck.train.config import TrainConfig, load_config
from ck.train.metrics import read_metrics
from ck.train.parity.torch_run import TorchRun, torch_run
from ck.train.rundir import RunDirectory
from ck.train.runs import RunResult, result, start
from ck.train.setup import reopen

# Lines of progress, this many seconds apart.
QUIET_S = 10.0


class Progress:
    """A `Watch` that says something now and then, on standard error."""

    def __init__(self) -> None:
        self._next = 0.0

    def say(self, text: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + QUIET_S
            print(text, file=sys.stderr, flush=True)

    def on_step(self, report: Any) -> None:
        self.say(f"ck: step {report.step}/{report.total_steps}, loss {report.loss:.4f}")

    def on_dev(self, step: int, loss: float, bits_per_byte: float) -> None:
        self.say(f"ck: step {step}, dev loss {loss:.4f}, {bits_per_byte:.4f} bits per byte")


def in_ck(name: str, given: argparse.Namespace, watch: Progress) -> tuple[RunResult, TrainConfig, float]:
    """The run's end, its configuration and the seconds its steps took; trained unless it is there."""
    try:
        run = RunDirectory.open(name)
    except UsageError:
        flags = {"template": given.template, "data": given.data, "steps": given.steps}
        config = load_config(given.config, flags, given.set)
        start(name, config, watch)
        run = RunDirectory.open(name)
    config = load_config(run.path / "config.toml")
    ended = result(run)
    if ended.step != reopen(run, config).total_steps:
        raise UsageError(f"{run.path}: must be a finished run; run: ck resume {name}")
    return ended, config, max(line.get("wall_seconds", 0.0) for line in read_metrics(run))


def compared(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Both runs' figures."""
    watch = Progress()
    ours, config, wall_s = in_ck(name, given, watch)
    began = time.monotonic()
    theirs: TorchRun = torch_run(config, reopen(RunDirectory.open(name), config), say=watch.say)
    torch_s = time.monotonic() - began
    losses = [line["loss"] for line in read_metrics(RunDirectory.open(name)) if "loss" in line]
    bits = ours.dev_bits_per_byte, theirs.dev_bits_per_byte
    if bits[0] is None or bits[1] is None:
        raise UsageError(f"{name}: must have dev data, data.dev_fraction above 0")
    return {
        "steps": ours.step,
        "ck": {"loss": losses[-1], "dev_loss": ours.dev_loss, "dev_bits_per_byte": bits[0], "wall_s": wall_s},
        "torch": {
            "loss": theirs.losses[-1], "dev_loss": theirs.dev_loss, "dev_bits_per_byte": bits[1],
            "wall_s": torch_s,
        },
        "ratio": bits[0] / bits[1],
        "loss_max_abs": max(abs(a - b) for a, b in zip(losses, theirs.losses, strict=True)),
    }  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("data", nargs="*")
    parser.add_argument("--template")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--limit", type=float, default=0.01)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", metavar="DIR")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write, judge."""
    given = arguments()
    try:
        figures = compared(given.name, given)
        show(figures)
        given.out.mkdir(parents=True, exist_ok=True)
        record = {"situation": situation(), "run": given.name, **figures}
        (given.out / "parity_run.json").write_text(json.dumps(record, indent=2) + "\n")
        if not abs(figures["ratio"] - 1) <= given.limit:
            raise GateError(f"ck / torch must be within {given.limit:g} of 1, found {figures['ratio']:.6f}")
    except (CkError, OSError) as error:
        print(f"parity_run.py: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CkError) else MachineError.exit_code
    return 0


def show(figures: dict[str, Any]) -> None:
    """The table."""
    print(f"{'':8}{'loss':>10}{'dev loss':>10}{'bits/byte':>11}{'seconds':>10}")
    for side in ("ck", "torch"):
        row = figures[side]
        print(
            f"{side:8}{row['loss']:10.5f}{row['dev_loss']:10.5f}{row['dev_bits_per_byte']:11.5f}"
            f"{row['wall_s']:10.1f}"
        )
    print(f"ck / torch {figures['ratio']:.6f}, losses differ by {figures['loss_max_abs']:.2e} at most")


if __name__ == "__main__":
    sys.exit(main())
