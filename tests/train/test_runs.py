"""Runs begin once, belong to one trainer, and outlive kill -9, a full disk and one that is read-only."""

import gc
import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import CkError, ConflictError, MalformedError, ResourceError, UsageError
from ck.train import runs
from ck.train.checkpoints import Checkpoint, Checkpoints
from ck.train.config import load_config
from ck.train.rundir import RunDirectory
from ck.train.trainer import Trainer
from tests.train import children
from tests.train.kill_trials import SETTINGS
from tests.train.small_runs import contents, measures, options

# `make kill-trials` has 100.
TRIALS = int(os.environ.get("CK_KILL_TRIALS", "12"))


def settings(**changes: Any) -> Any:
    return load_config(None, options(**changes))


def steps_of(run: Path) -> list[Any]:
    """The metrics of updates; where a run is extended decides on its dev passes."""
    return [line for line in measures(run) if "loss" in line]


@pytest.mark.timeout(1200)
def test_killed_at_any_moment_a_run_goes_on(training: Path, measured: Any) -> None:
    code = "import sys; from tests.train.kill_trials import kill_at_random; kill_at_random(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(training / "run"), str(TRIALS)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=children.environment(), timeout=1100, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    measured(f"kill -9 of a trainer, {TRIALS} trials: {found}")
    assert found["begun"] >= TRIALS // 2
    assert found["saved"] > TRIALS
    # However often it died, it is the run that did not.
    runs.start("./straight", settings(steps=found["saved"], **SETTINGS))
    straight, run = training / "straight", training / "run"
    assert contents(run, found["saved"]) == contents(straight, found["saved"])
    assert steps_of(run) == steps_of(straight)


def test_a_run_is_one_once_it_can_be_resumed(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ResourceError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Checkpoints, "save", fail)
        with pytest.raises(ResourceError):
            ck.train(run="./a", steps=2, **options())
    assert not (training / "a" / "run.json").exists()
    with monkeypatch.context() as broken:
        broken.setattr(Trainer, "train", fail)
        with pytest.raises(ResourceError):
            ck.train(run="./a", steps=2, **options())
    # As if killed before the first step: not to be begun again, but resumed.
    with pytest.raises(ConflictError, match="ck resume"):
        ck.train(run="./a", steps=2, **options())
    assert runs.resume("./a").step == 2
    straight = ck.train(run="./b", steps=2, **options()).path
    assert contents(training / "a", 2) == contents(straight, 2)


def test_what_a_lost_record_leaves_does_not_mix_with_a_new_run(training: Path) -> None:
    run = ck.train(run="./a", steps=40, **options()).path
    (run / "run.json").unlink()
    ck.train(run="./a", steps=20, **options(seed=2))
    assert Checkpoints(run).steps() == [0, 20]
    straight = ck.train(run="./b", steps=20, **options(seed=2)).path
    assert contents(run, 20) == contents(straight, 20)
    assert measures(run) == measures(straight)


def test_a_run_and_its_configuration_may_be_paths(training: Path) -> None:
    (training / "c.toml").write_text("[run]\nsteps = 2\n")
    given = options(batch=np.int64(1), lr=np.float32(0.25))
    result = ck.train(run=Path("a"), toml="c.toml", **given)
    assert (result.path, result.step) == (training / "a", 2)
    config = load_config(Path("a") / "config.toml")
    assert (config.run.batch, config.optim.lr) == (1, 0.25)
    with pytest.raises(UsageError, match="run: must be a name or a path, found 3"):
        ck.train(run=3, **options())


def test_two_trainers_that_begin_one_run(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = RunDirectory.lock

    def late(run: RunDirectory) -> Any:
        # The other one ran to its end between the look for a run and the lock.
        monkeypatch.setattr(RunDirectory, "lock", lock)
        ck.train(run="./a", steps=2, **options())
        return lock(run)

    monkeypatch.setattr(RunDirectory, "lock", late)
    with pytest.raises(ConflictError, match="must be a new run"):
        ck.train(run="./a", steps=5, **options())
    assert Checkpoints(training / "a").steps() == [0, 2]


def test_one_trainer_at_a_time(training: Path) -> None:
    run = ck.train(run="./a", steps=2, **options()).path
    before = contents(run, 2)
    with RunDirectory.open("./a").lock():
        holder = f"a: one trainer at a time, process {os.getpid()} is at work; wait for it"
        with pytest.raises(ConflictError, match=holder):
            runs.resume("./a", flags={"steps": 4})
    assert contents(run, 2) == before
    assert runs.resume("./a", flags={"steps": 4}).step == 4


def test_resume_changes_what_may_change(training: Path) -> None:
    run = ck.train(run="./a", steps=20, **options(schedule="constant")).path
    for flags, sets in (({"batch": 4}, ()), ({}, ("optim.beta1=0.8",)), ({}, ("model.layers=3",))):
        with pytest.raises(UsageError, match=r"must stay as the run began; only run\.steps"):
            runs.resume("./a", flags=flags, sets=sets)
    runs.resume("./a", flags={"steps": 40})
    record = json.loads((run / "run.json").read_text())
    assert record["total_steps"] == 40
    assert record["changes"] == [{"after_step": 20, "run.steps": [20, 40]}]
    assert load_config(run / "config.toml").run.steps == 40
    straight = ck.train(run="./b", steps=40, **options(schedule="constant")).path
    assert contents(run, 40) == contents(straight, 40)
    assert json.loads((straight / "run.json").read_text())["config_sha256"] == record["config_sha256"]
    # Another rate holds from there on, and is noted.
    runs.resume("./a", flags={"lr": 1e-3}, step=20)
    assert measures(run)[-2]["lr"] == 1e-3
    assert json.loads((run / "run.json").read_text())["changes"][1] == {
        "after_step": 20,
        "optim.lr": [3e-4, 1e-3],
    }


def test_a_resumed_run_holds_one_copy_of_its_tensors(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ck.train(run="./a", steps=2, **options())
    held: list[int] = []
    train = Trainer.train

    def count(trainer: Trainer) -> None:
        gc.collect()
        held.append(sum(isinstance(each, Checkpoint) for each in gc.get_objects()))
        train(trainer)

    monkeypatch.setattr(Trainer, "train", count)
    assert runs.resume("./a", flags={"steps": 4}).step == 4
    assert held == [0]


def test_other_kernels_than_those_it_began_with_are_named(training: Path) -> None:
    class Listening(runs.Quiet):
        def say(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    run = ck.train(run="./a", steps=2, **options()).path
    runs.resume("./a", Listening())
    assert not [line for line in said if "with kernels for" in line]
    record = json.loads((run / "run.json").read_text())
    own, record["machine"]["isa_path"] = record["machine"]["isa_path"], "sse9"
    (run / "run.json").write_text(json.dumps(record))
    runs.resume("./a", Listening())
    assert f"the run began with kernels for sse9, these are for {own}: last bits may differ" in said


def files(run: Path) -> dict[Path, bytes]:
    """All that a run holds, but for who held it last."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "run.lock"}


def test_a_run_is_never_shorter_than_it_is(training: Path) -> None:
    run = ck.train(run="./a", steps=40, **options()).path
    before = files(run)
    for flags, line in (
        (
            {"steps": 30},
            "--steps: must come to at least the 40 steps that are done, found 30; pass more, or go",
        ),
        ({"total_tokens": 128}, "--total-tokens: must come to at least the 40 steps that are done, found 2;"),
    ):
        with pytest.raises(UsageError, match=line):
            runs.resume("./a", flags=flags)
        assert files(run) == before
    # From an earlier step it may end earlier.
    assert runs.resume("./a", step=20, flags={"steps": 30}).step == 30


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "must be a JSON object, found list"),
        ("{}", "hyperparameters must be an object, found NoneType"),
        ('{"hyperparameters": {}, "machine": []}', "machine must be an object, found list"),
        ('{"hyperparameters": {}, "changes": {}}', "changes must be an array, found dict"),
        ("[", "must be JSON, "),
    ],
)
def test_a_damaged_record_is_named_and_nothing_is_written(text: str, line: str, training: Path) -> None:
    (training / "a").mkdir()
    (training / "a" / "run.json").write_text(text)
    with pytest.raises(MalformedError, match=f"a/run.json: {line}"):
        runs.resume("./a")
    assert [path.name for path in (training / "a").iterdir()] == ["run.json"]


def test_a_checkpoint_of_another_program_is_named(training: Path) -> None:
    run = ck.train(run="./a", steps=2, **options()).path
    kept = Checkpoints(run)
    found = kept.load(2)
    kept.save(Checkpoint(2, found.weights, found.optimizer, {"updates": 2}))
    with pytest.raises(MalformedError, match=r"step-2/state\.json: record must have .*, cursor is missing"):
        runs.resume("./a")


def test_resume_needs_the_runs_own_tokenizer_and_data(training: Path) -> None:
    run = ck.train(run="./a", steps=2, **options()).path
    other = ck.train(run="./b", steps=2, **options(vocab_size=301)).path
    kept = (run / "tokenizer.json").read_bytes()
    (run / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
    with pytest.raises(CkError, match="tokenizer"):
        runs.resume("./a")
    (run / "tokenizer.json").write_bytes(kept)
    shard = run / "data" / "train-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(MalformedError, match=r"train-00000\.bin: must have \d+ bytes, found \d+"):
        runs.resume("./a")
    with pytest.raises(UsageError, match=r"must be a run directory, has no run\.json"):
        runs.resume("nothing")


DISK = """
import os, subprocess, sys
from ck.cli.main import main
from tests.train.small_runs import words

disk = sys.argv[1]
ballast = os.path.join(disk, "ballast")
open(ballast, "wb").write(b"x" * (BALLAST << 10))
run = ["--run", os.path.join(disk, "run")]
def call(*arguments):
    print(main([*arguments]), flush=True)
"""


def on_disk(training: Path, text: str, n_kib: int, ballast: int) -> list[str]:
    """What a child printed whose run lies on a disk of n_kib, of which `ballast` are taken."""
    ck.train(run="./first", steps=1, **options())  # the program is compiled
    disk = training / "disk"
    disk.mkdir()
    code = DISK.replace("BALLAST", str(ballast)) + text
    return children.run_on_disk(code, disk, n_kib).splitlines()


def test_a_full_disk_ends_in_one_line_and_the_run_goes_on(training: Path) -> None:
    text = """
sys.stderr = sys.stdout
call("train", *run, "--steps", "60", *words())
print(sorted(name for name in os.listdir(run[1] + "/checkpoints") if name.startswith("step")))
print(os.path.exists(run[1] + "/checkpoints/latest/MANIFEST.json"))
os.remove(ballast)
call("resume", run[1])
import gc
import hashlib
for name in ("weights.safetensors", "optimizer.safetensors", "state.json"):
    print(hashlib.sha256(open(f"{run[1]}/checkpoints/step-60/{name}", "rb").read()).hexdigest())
"""
    lines = on_disk(training, text, 3200, 1800)
    failed = next(number for number, line in enumerate(lines) if line.startswith("ck: "))
    assert (
        "needs room on its disk, no space left on device; free some, what was saved is intact"
        in lines[failed]
    )
    assert lines[failed + 1] == "8"
    saved = lines[failed + 2]
    assert saved.startswith("['step-0'")
    assert "step-60" not in saved
    assert lines[failed + 3] == "True"
    straight = ck.train(run="./straight", steps=60, **options()).path
    assert lines[-3:] == [hashlib.sha256(data).hexdigest() for data in contents(straight, 60).values()]
    assert lines[-4] == "0"


@pytest.mark.parametrize("ballast", [2700, 3150, 3192])
def test_a_disk_too_small_to_begin_leaves_no_run(ballast: int, training: Path) -> None:
    text = """
sys.stderr = sys.stdout
call("train", *run, "--steps", "10", *words())
print(os.path.exists(run[1] + "/run.json"))
os.remove(ballast)
call("train", *run, "--steps", "10", *words())
"""
    lines = on_disk(training, text, 3200, ballast)
    failed = next(number for number, line in enumerate(lines) if line.startswith("ck: "))
    assert lines[failed].endswith("no space left on device; free some, nothing was saved")
    assert lines[failed + 1 : failed + 3] == ["8", "False"]
    assert lines[-1] == "0"


def test_a_read_only_run_is_one_line(training: Path) -> None:
    text = """
call("train", *run, "--steps", "10", *words())
sys.stderr = sys.stdout
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
call("resume", run[1], "--steps", "20")
call("train", "--run", os.path.join(disk, "other"), *words())
call("promote", run[1])
subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
call("resume", run[1], "--steps", "20", "--json")
"""
    lines = on_disk(training, text, 1 << 14, 1)
    refused = "{}: must be writable, read-only file system; what was saved is intact"
    disk = training / "disk"
    errors = [line for line in lines if line.startswith("ck: ")]
    assert errors == [
        "ck: " + refused.format(disk / "run" / "run.lock"),
        f"ck: {disk / 'other'}: must be writable, read-only file system; nothing was saved",
        "ck: " + refused.format(disk / "run" / "run.lock"),
    ]
    assert [line for line in lines if line.isdigit()] == ["0", "6", "6", "6", "0"]
    assert '  "step": 20,' in lines


def test_a_limit_on_the_size_of_files_is_a_full_disk(training: Path) -> None:
    run = ck.train(run="./a", steps=10, **options()).path
    before = contents(run, 10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ResourceError, match="needs room on its disk, file too large"):
            runs.resume("./a", flags={"steps": 20})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(run, 10) == before
    assert Checkpoints(run).linked("latest") == 10
    assert runs.resume("./a").step == 20
