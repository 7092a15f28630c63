"""Trainers that die at random moments while they save every step, and what must hold afterwards.

Tests run `kill_at_random` as a child. It trains one step itself, so that its forks have all modules and find
the program compiled: a trainer then begins at once.
"""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from ck.errors import UsageError
from ck.train import runs
from ck.train.checkpoints import Checkpoints
from ck.train.config import load_config
from ck.train.files import UNFINISHED
from tests.train.checkpoint_trials import check_links, forked
from tests.train.small_runs import options

# No trial comes to the end: a step, its dev pass and its checkpoint take some milliseconds.
ENDLESS = 100_000
SETTINGS: dict[str, Any] = {"save_every": 1, "eval_every": 3, "schedule": "constant", "threads": 1}


def work(run: str) -> None:
    """What a user does after a crash: resume, or where there was no run yet begin it again."""
    try:
        runs.resume(run)
    except UsageError as error:
        if "has no run.json" not in str(error):
            raise
        runs.start(run, settings(ENDLESS))


def settings(steps: int) -> Any:
    return load_config(None, options(steps=steps, **SETTINGS))


def check(run: Path) -> tuple[int, bool]:
    """The newest step once a trainer is dead, and whether it left something half-written."""
    half = any(path.name.startswith(UNFINISHED) for path in run.glob("checkpoints/*"))
    if not (run / "run.json").exists():
        return 0, half
    saved = Checkpoints(run)
    assert (saved.directory / "latest" / "MANIFEST.json").is_file()
    if os.path.lexists(saved.directory / "best"):
        assert (saved.directory / "best" / "MANIFEST.json").is_file()
    skipped: list[str] = []
    newest = saved.load_newest(skipped.append)
    assert not skipped, skipped
    assert saved.linked("latest") in saved.steps()
    return newest.step, half


def kill_at_random(run: str, trials: str) -> None:
    """kill -9 at random moments from the first read of the data on; prints what came of it."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    path, chance = Path(run), random.Random(11)
    runs.start(f"{run}-before", settings(1))
    newest = interrupted = begun = 0
    for trial in range(int(trials)):
        child = forked(lambda: work(run))
        # Sooner or later: before the run is one, while it loads, and in the middle of its steps.
        ends = time.monotonic() + chance.uniform(0, 0.2 if trial % 3 == 0 else 1.0)
        while time.monotonic() < ends:
            if newest > 1:
                check_links_of(path)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"trial {trial} ended by itself"
        step, half = check(path)
        assert step >= newest, f"trial {trial} lost step {newest}, found {step}"
        begun += (path / "run.json").exists()
        newest, interrupted = step, interrupted + half
    result = runs.resume(run, flags={"steps": newest + 3})
    assert result.step == newest + 3
    print(json.dumps({"begun": begun, "interrupted": interrupted, "saved": newest + 3}))


def check_links_of(run: Path) -> None:
    saved = Checkpoints(run)
    if saved.linked("best") is not None:
        check_links(saved)
