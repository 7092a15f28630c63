"""Every command and every piece of Python in the documents runs as written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import model_path

ROOT = Path(__file__).resolve().parent.parent
# docs/cli.md and docs/ops.md are generated and have their own tests.
PAGES = [ROOT / "README.md", *(ROOT / "docs" / name for name in ("verification.md", "benchmarks.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _pieces() -> list[tuple[str, str]]:
    """(language, text): each line of a shell block, each Python block whole."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text()):
            pieces = text.splitlines() if language == "sh" else [text]
            found += [(language, piece) for piece in pieces]
    return [piece for piece in found if piece[1].strip()]


@pytest.mark.parametrize(("language", "text"), _pieces(), ids=lambda value: value.splitlines()[0][:60])
def test_runs_as_written(language: str, text: str) -> None:
    model_path("smollm2-135m")
    if language == "python":
        command = [sys.executable, "-c", text]
    else:
        name, *rest = shlex.split(text)
        programs = {"ck": ["-m", "ck.cli.main"], "ck-opt": ["-m", "ck.cli.opt"], "python": []}
        command = [sys.executable, *programs[name], *rest]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    if "capital of France" in text:
        assert "Paris" in done.stdout
