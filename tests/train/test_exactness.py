"""A run that was killed or interrupted and resumed is the run that was not, bit for bit, on any threads."""

import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import UsageError
from ck.runtime.trainable import Trainable, compile_trainable
from ck.train import runs
from ck.train.metrics import read_metrics
from tests.train.small_runs import (
    assert_equal_runs,
    contents,
    corpus,
    distance,
    documents,
    measures,
    options,
    rows,
    spawn,
    template,
    words,
)

STEPS = 200


@pytest.fixture(scope="module")
def made(training_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 200 steps without a break."""
    folder = tmp_path_factory.mktemp("straight")
    (folder / "c.txt").write_text(corpus())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CK_CACHE_DIR", str(training_cache))
        patch.chdir(folder)
        return ck.train(run="./straight", steps=STEPS, **options()).path


@pytest.fixture
def straight(made: Path, training: Path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(made, training / "straight", symlinks=True)


def last_step(run: Path) -> int:
    """The step of the last whole line of the metrics so far."""
    try:
        return int(read_metrics(run)[-1]["step"])
    except (UsageError, IndexError):  # no line is there yet
        return 0


def end_in_time(folder: Path, moment: int, number: int, **changes: Any) -> tuple[Path, int, str]:
    """A run whose process got the signal between step `moment` and its end; how it ended, what it said."""
    for attempt in range(10):
        run = folder / f"ended-{attempt}"
        child = spawn("train", "--run", str(run), "--steps", str(STEPS), *words(**changes))
        while last_step(run) < moment and child.poll() is None:
            time.sleep(0.001)
        child.send_signal(number)
        _, error = child.communicate(timeout=60)
        # On a busy machine the process may be done before this one wakes up.
        if last_step(run) < STEPS:
            return run, child.returncode, error
    pytest.fail("no process was ended in time")


def test_kill_and_resume_give_the_straight_run(straight: Path, training: Path) -> None:
    moment = random.SystemRandom().randint(STEPS // 2, STEPS - 40)
    run, code, _ = end_in_time(training, moment, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert last_step(run) >= moment
    assert not (run / "checkpoints" / f"step-{STEPS}").exists()
    resumed = spawn("resume", str(run))
    _, error = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, error
    assert re.search(rf"^resuming after step 1[0-8]0 of {STEPS}$", error, re.MULTILINE), error
    assert_equal_runs(run, straight, STEPS)
    # The checkpoints before the end are the straight run's as well.
    assert contents(run, 180) == contents(straight, 180)
    assert len(measures(run)) == STEPS + STEPS // 10


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_step_under_way(number: int, code: int, straight: Path, training: Path) -> None:
    run, found, error = end_in_time(training, 90, number, save_every=1000)
    said = re.search(r"^ck: step (\d+) is saved; go on with: ck resume (\S+)$", error, re.MULTILINE)
    assert found == code, error
    assert said, error
    step = int(said[1])
    assert 90 <= step < STEPS
    assert said[2] == str(run)
    assert (run / "checkpoints" / "latest").resolve().name == f"step-{step}"
    assert last_step(run) == step
    assert runs.resume(str(run)).step == STEPS
    assert_equal_runs(run, straight, STEPS)


def test_resume_from_an_earlier_step_gives_up_the_later_ones(straight: Path) -> None:
    before, lines = contents(straight, STEPS), measures(straight)
    (straight / "checkpoints" / f"step-{STEPS}" / "weights.safetensors").write_bytes(b"damaged")
    said: list[str] = []

    class Listening(runs.Quiet):
        def say(self, text: str) -> None:
            said.append(text)

    runs.resume(str(straight), Listening(), step=180)
    assert f"resuming after step 180 of {STEPS}" in said
    assert contents(straight, STEPS) == before
    assert measures(straight) == lines
    # Not asked for a step: the newest that verifies, and a line for each newer one.
    (straight / "checkpoints" / f"step-{STEPS}" / "weights.safetensors").write_bytes(b"damaged")
    said.clear()
    runs.resume(str(straight), Listening())
    assert said[0].startswith(f"skipped step {STEPS}: ")
    assert contents(straight, STEPS) == before


def test_threads_do_not_change_a_bit(straight: Path) -> None:
    for threads in (1, 2, 3):
        run = ck.train(run=f"./threads-{threads}", steps=STEPS, threads=threads, **options()).path
        assert_equal_runs(run, straight, STEPS)


def test_resumed_on_other_threads(straight: Path, training: Path) -> None:
    # The straight run again from step 160, on one thread.
    before = contents(straight, STEPS)
    runs.resume(str(straight), step=160, flags={"threads": 1})
    assert contents(straight, STEPS) == before


@pytest.fixture(scope="module")
def wide(training_cache: Path) -> Any:
    """`wide(family)`: a trainable that takes 8 x 32 rows."""
    made: dict[str, Trainable] = {}

    def make(family: str) -> Trainable:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CK_CACHE_DIR", str(training_cache))
            if family not in made:
                made[family] = compile_trainable(template(family), batch=8, seq=32, init="xavier_normal")
        made[family].zero_gradients()
        return made[family]

    return make


def taken(trainable: Trainable) -> dict[str, Any]:
    found = {name: gradient.copy() for name, gradient in trainable.gradients.items()}
    trainable.zero_gradients()
    return found


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_accumulation_is_one_large_batch(family: str, wide: Any) -> None:
    trainable = wide(family)
    batch = documents([32] * 8)
    weight = 1 / batch.n_scored
    whole = trainable.accumulate(batch, weight)
    at_once = taken(trainable)
    parts = [trainable.accumulate(rows(batch, at, at + 64), weight) for at in range(0, 256, 64)]
    in_parts = taken(trainable)
    loss, other = (float(np.sum(nll, dtype=np.float64)) * weight for nll in (np.concatenate(parts), whole))
    assert abs(loss - other) <= 1e-6 * other
    assert {name: d for name in at_once if (d := distance(in_parts[name], at_once[name])) > 1e-6} == {}


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_documents_that_share_a_batch_do_not_see_each_other(family: str, wide: Any) -> None:
    trainable = wide(family)
    batch = documents([19, 1, 30, 14], seed=3)
    weight = 1 / batch.n_scored
    together, of_all = trainable.accumulate(batch, weight), taken(trainable)
    alone = [
        trainable.accumulate(rows(batch, *ends), weight) for ends in ((0, 19), (19, 20), (20, 50), (50, 64))
    ]
    of_each = taken(trainable)
    assert np.array_equal(np.concatenate(alone), together)
    assert np.count_nonzero(together) == batch.n_scored
    assert {name: d for name in of_all if (d := distance(of_each[name], of_all[name])) > 1e-6} == {}
    # Another first document leaves the others' losses alone, and its own rows it does not.
    changed = documents([19, 1, 30, 14], seed=3)
    changed.tokens[:19] = (changed.tokens[:19] + 1) % 300
    after = trainable.evaluate(changed)
    assert np.array_equal(after[19:], together[19:])
    assert not np.array_equal(after[:19], together[:19])


@pytest.mark.parametrize("n", [1, 2, 31, 33, 255])
def test_fewer_rows_than_the_capacity(n: int, wide: Any) -> None:
    trainable = wide("llama")
    # What a larger batch left behind must not count.
    trainable.accumulate(documents([128, 128], seed=5), 1.0)
    trainable.zero_gradients()
    batch = documents([n], seed=7)
    batch.targets[-1] = 3
    first, gradients = trainable.accumulate(batch, 1.0), taken(trainable)
    fresh = Trainable(trainable.template, trainable.program, trainable.parameters)
    assert np.array_equal(fresh.accumulate(batch, 1.0), first)
    assert all(np.array_equal(fresh.gradients[name], values) for name, values in gradients.items())
