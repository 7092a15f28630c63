"""Every command and every piece of Python in the documents runs as written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import model_path

ROOT = Path(__file__).resolve().parent.parent
# docs/cli.md and docs/ops.md are generated and have their own tests.
NAMES = (
    *("verification.md", "benchmarks.md", "training.md", "finetuning.md", "debugging.md", "models.md"),
    "chat.md",
)
PAGES = [ROOT / "README.md", *(ROOT / "docs" / name for name in NAMES)]
# What a block that trains writes goes elsewhere, and its lines run in order.
TRAINS = "ck train"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _pieces() -> list[tuple[str, str]]:
    """(language, text): each line of a shell block, each Python block and each block that trains whole."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text()):
            by_line = language == "sh" and TRAINS not in text
            found += [(language, piece) for piece in (text.splitlines() if by_line else [text])]
    return [piece for piece in found if piece[1].strip()]


def _command(line: str) -> list[str]:
    name, *rest = shlex.split(line)
    programs = {"ck": ["-m", "ck.cli.main"], "ck-opt": ["-m", "ck.cli.opt"], "python": []}
    return [sys.executable, *programs[name], *rest]


@pytest.mark.parametrize(("language", "text"), _pieces(), ids=lambda value: value.splitlines()[0][:60])
def test_runs_as_written(language: str, text: str, tmp_path: Path) -> None:
    env = dict(os.environ)
    if TRAINS in text or 'mode="train"' in text:
        env["CK_CACHE_DIR"] = str(tmp_path)
    else:
        model_path("smollm2-135m")
    commands = [[sys.executable, "-c", text]]
    if language == "sh":
        commands = [_command(line) for line in text.splitlines()]
    for command in commands:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        if "capital of France" in text:
            assert "Paris" in done.stdout
