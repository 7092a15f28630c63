"""Put deliberate bugs into a copy of the product, one at a time, and see which of two detectors finds each.

    python tests/mutations/run.py [NAME...] [--examples N] [--json FILE] [--table FILE]

NAME is a part of a bug's name; default: all. The detectors run in processes of their own:

    check     the passes of a fixed set of modules, each checked by execution, and the compiled program
    graphs    random graphs through interpreters, C, LLVM and torch, up to N of them

A bug is caught by what fails, be it by a difference, a declined program or a crash. The copy without a bug
goes first: both detectors have to be silent about it. Exit code 1 when that fails or a bug is not caught.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":
    # The xdsl package brings top-level tests of its own.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.mutations.bugs import Bug, Tree, all_bugs

DETECTORS = ("check", "graphs")
EXAMPLES = 300
TIMEOUT_S = 900
# What two runs of one graph end in, most of the time.
DISAGREEMENT = "a disagreement"


@dataclass(frozen=True)
class Found:
    """What a detector said: nothing, or where it stopped (`after` so many modules or graphs) and why."""

    caught: bool
    after: int
    by: str = ""
    text: str = ""
    seconds: float = 0.0


def detect(tree: Tree, detector: str, examples: int) -> Found:
    """Run a detector in the copy. Its last line is JSON; dying or hanging is having found something."""
    started = time.monotonic()
    command = [sys.executable, f"tests/mutations/by_{detector}.py", str(examples)]
    with tempfile.TemporaryDirectory(prefix="ck-mutations-") as cache:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CK_")}
        env = {**kept, "PYTHONPATH": str(tree.folder), "CK_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, cwd=tree.folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return Found(True, 0, "a hang", f"after {TIMEOUT_S} s", time.monotonic() - started)
    seconds = round(time.monotonic() - started, 1)
    if done.returncode != 0:
        code = done.returncode
        by = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Found(True, 0, by, (done.stderr.strip().splitlines() or [by])[-1], seconds)
    return Found(**json.loads(done.stdout.splitlines()[-1]), seconds=seconds)


@dataclass(frozen=True)
class Trial:
    """A bug and what the detectors said of it."""

    bug: Bug
    found: dict[str, Found]

    @property
    def caught(self) -> bool:
        return any(found.caught for found in self.found.values())


def trial(tree: Tree, bug: Bug, detectors: Sequence[str], examples: int) -> Trial:
    """Put a bug in and run the detectors."""
    with tree.broken_by(bug):
        return Trial(bug, {name: detect(tree, name, examples) for name in detectors})


def table(trials: Sequence[Trial]) -> str:
    """The results as Markdown."""
    lines = ["| bug | in | `--check` | random graphs |", "|---|---|---|---|"]
    for one in trials:
        cells = [
            _cell(one.found.get(name), unit) for name, unit in (("check", "module"), ("graphs", "graph"))
        ]
        lines.append(f"| {one.bug.name} | `{one.bug.file}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(found: Found | None, unit: str) -> str:
    if found is None:
        return "not run"
    at = f"{unit} {found.after}" if found.after else ""
    by = "" if found.by == DISAGREEMENT else found.by
    return ", ".join(filter(None, (at, by))) if found.caught else "no"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="deliberate bugs, and who finds them")
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of bugs' names; default: all")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="random graphs at most")
    parser.add_argument("--only", choices=DETECTORS, help="run this detector alone")
    parser.add_argument("--json", type=Path, help="write the results")
    parser.add_argument("--table", type=Path, help="write them as Markdown")
    return parser.parse_args()


def main() -> int:
    """The command line. Returns the exit code."""
    args = _arguments()
    bugs = [b for b in all_bugs() if not args.names or any(name in b.name for name in args.names)]
    detectors = [args.only] if args.only else list(DETECTORS)
    with tempfile.TemporaryDirectory(prefix="ck-mutations-") as folder:
        tree = Tree(Path(folder))
        tree.build_library()
        for name in detectors:
            control = detect(tree, name, args.examples)
            print(f"no bug: {name} {_said(control)}", flush=True)
            if control.caught:
                return 1
        trials: list[Trial] = []
        for number, bug in enumerate(bugs, 1):
            trials.append(trial(tree, bug, detectors, args.examples))
            said = "; ".join(f"{name} {_said(found)}" for name, found in trials[-1].found.items())
            print(f"{number}/{len(bugs)} {bug.name}: {said}", flush=True)
            _write(args, trials)
    missed = [one.bug.name for one in trials if not one.caught]
    print(
        f"{len(trials) - len(missed)} of {len(trials)} caught" + "".join(f"\nnot caught: {m}" for m in missed)
    )
    return 1 if missed else 0


def _said(found: Found) -> str:
    what = f"{found.by} at {found.after}: {found.text}" if found.caught else f"silent after {found.after}"
    return f"{what} ({found.seconds:.0f} s)"


def _write(args: argparse.Namespace, trials: Sequence[Trial]) -> None:
    if args.json:
        args.json.write_text(json.dumps([asdict(one) for one in trials], indent=1) + "\n")
    if args.table:
        args.table.write_text(table(trials))


if __name__ == "__main__":
    sys.exit(main())
