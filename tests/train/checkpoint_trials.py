"""Processes that die while they save checkpoints, and what must hold afterwards. Tests run it as a child."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ck.train.checkpoints import Checkpoint, Checkpoints
from ck.train.files import UNFINISHED
from ck.train.rundir import clear_scratch

TRIALS = 100


def make(step: int, n_floats: int = 300) -> Checkpoint:
    """The checkpoint of `step`: its contents follow from it."""
    rng = np.random.Generator(np.random.Philox(step))
    weights = {f"blk.{i}.w": rng.standard_normal((3, n_floats // 3), np.float32) for i in range(3)}
    moments = {f"adam_m.{name}": array * 2 for name, array in weights.items()}
    return Checkpoint(step, weights, moments, {"cursor": step * 7})


def assert_good(found: Checkpoint, n_floats: int = 300) -> None:
    expected = make(found.step, n_floats)
    assert found.record == expected.record
    for ours, theirs in ((found.weights, expected.weights), (found.optimizer, expected.optimizer)):
        assert ours.keys() == theirs.keys()
        assert all(ours[name].tobytes() == array.tobytes() for name, array in theirs.items())


def forked(work: Callable[[], object]) -> int:
    """The id of a child that does `work` and ends."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child


def check_links(saved: Checkpoints) -> None:
    for name in ("latest", "best"):
        # One call: it resolves the link and finds the file, or the link dangles.
        os.stat(saved.directory / name / "MANIFEST.json")


def check_after(saved: Checkpoints) -> tuple[int, bool]:
    """What must hold once a saver is dead; its newest step, and whether it left something half-written."""
    check_links(saved)
    skipped: list[str] = []
    newest = saved.load_newest(skipped.append)
    assert not skipped, skipped
    assert_good(newest)
    assert {saved.linked("latest"), saved.linked("best")} <= {*saved.steps()}
    for step in saved.steps():
        assert_good(saved.load(step))
    run = saved.directory.parent
    half = any(path.name.startswith(UNFINISHED) for path in saved.directory.iterdir())
    clear_scratch(run)
    assert not [path for path in saved.directory.iterdir() if path.name.startswith(UNFINISHED)]
    return newest.step, half


def save_for_ever(saved: Checkpoints, step: int) -> None:
    while True:
        step += 1
        saved.save(make(step), dev_loss=float(step % 5))
        if step % 3 == 0:
            saved.save(make(step), dev_loss=float(step % 5))


def kill_at_random(run: str) -> None:
    """kill -9 at random moments, while this process watches the links."""
    saved = Checkpoints(Path(run), keep_last=2)
    started = time.monotonic()
    saved.save(make(1), dev_loss=3.0)
    saved.save(make(2), dev_loss=3.0)
    one_save_s = (time.monotonic() - started) / 2
    chance = random.Random(7)
    newest, interrupted = 2, 0
    for _ in range(TRIALS):
        child = forked(lambda step=newest: save_for_ever(saved, step))
        ends = time.monotonic() + chance.uniform(0, min(0.3, 6 * one_save_s))
        while time.monotonic() < ends:
            check_links(saved)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        step, half = check_after(saved)
        assert step >= newest
        newest = step
        interrupted += half
    print(json.dumps({"trials": TRIALS, "interrupted": interrupted, "saved": newest}))


def save_until(saved: Checkpoints, step: int, calls: int) -> None:
    """Save, and die at the `calls`-th thing that Python asks of the system."""
    left = calls

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal left
        if event.startswith(("os.", "open", "shutil.", "ctypes.", "tempfile.")):
            left -= 1
            if left == 0:
                os._exit(9)

    checkpoint = make(step)
    sys.addaudithook(count)
    saved.save(checkpoint, dev_loss=1 / step)


def kill_at_every_call(run: str) -> None:
    """A save that moves both links and prunes, ended at each of its calls in turn: one of a new step, and one
    of a step that is there."""
    trials = finished = 0
    for step in (3, 2):
        ended, calls = False, 0
        while not ended:
            trials += 1
            calls += 1
            folder = Path(run) / f"{step}-{trials}"
            folder.mkdir()
            saved = Checkpoints(folder, keep_last=1)
            for before in (1, 2):
                saved.save(make(before), dev_loss=1 / before)
            child = forked(lambda saved=saved, step=step, calls=calls: save_until(saved, step, calls))
            _, status = os.waitpid(child, 0)
            ended = os.waitstatus_to_exitcode(status) == 0
            check_after(saved)
        finished += 1
    print(json.dumps({"trials": trials, "finished": finished}))
