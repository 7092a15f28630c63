"""docs/cli.md is what the parser says, and the demo shows commands that exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

from ck.cli.main import VERBS

ROOT = Path(__file__).parents[2]


def test_the_page_is_fresh() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "scripts/write_cli_docs.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}docs/cli.md is stale: run python scripts/write_cli_docs.py"


def test_the_demo_names_three_verbs_to_try_next() -> None:
    demo = (ROOT / "demo").read_text()
    verbs = re.findall(r'^echo "  \$ck (\w+) ', demo, re.MULTILINE)
    assert len(verbs) == 3
    assert set(verbs) <= set(VERBS)
