"""What the checks against llama.cpp have in common: options, where a result lies, how a check ends."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ck.errors import CkError, MachineError

BUILD = Path(__file__).parents[2] / "build"


def add_common(parser: argparse.ArgumentParser, out: Path = BUILD / "benchmarks") -> None:
    """--threads and --out, the folder of the result."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=out, metavar="DIR")


def keep(out: Path, name: str, result: dict[str, Any], text: str) -> None:
    """The result as NAME.json and, for people, as NAME.md."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / f"{name}.md").write_text(text)


def ended(script: str, check: Callable[[], None]) -> int:
    """The exit code of `check`; what it raises is one line."""
    try:
        check()
    except (CkError, OSError) as error:
        print(f"{Path(script).name}: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CkError) else MachineError.exit_code
    return 0
