"""Checkpoints: what is saved comes back, what is damaged is skipped, and links always lead to a whole one."""

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from ck.errors import CkError, InternalError, MachineError, MalformedError, ResourceError, UsageError
from ck.train import checkpoints as module
from ck.train.checkpoints import Checkpoint, Checkpoints
from tests.train import children
from tests.train.checkpoint_trials import assert_good, make


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path)


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(os.listdir(checkpoints.directory))


def quiet(line: str) -> None:
    raise AssertionError(f"nothing was to be skipped: {line}")


def test_what_is_saved_comes_back(saved: Checkpoints) -> None:
    values = np.array([0.1, -0.0, np.inf, np.nan, 1e-45], np.float32)
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    weights = {"b": values, "a": transposed, "scalar": np.array(2.5, np.float32), "none": values[:0]}
    record = {"rng": [2**64 - 1, 0.1 + 0.2], "tokenizer": "ä", "cursor": {"epoch": 1}, "best": None}
    path = saved.save(Checkpoint(7, weights, {"adam_m.b": values}, record), dev_loss=2.25)
    assert path == saved.directory / "step-7"
    found = saved.load(7)
    assert (found.step, found.record, found.dev_loss) == (7, record, 2.25)
    assert found.weights.keys() == weights.keys()
    for name, array in weights.items():
        assert found.weights[name].shape == array.shape
        assert found.weights[name].tobytes() == array.tobytes(), name
    assert found.optimizer["adam_m.b"].tobytes() == values.tobytes()
    # The file is safetensors to the package's own reader as well.
    assert load_file(path / "weights.safetensors")["a"].tobytes() == transposed.tobytes()
    assert sorted(os.listdir(path)) == [
        "MANIFEST.json",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    assert saved.load_newest(quiet).step == 7


def test_only_f32_is_saved(saved: Checkpoints) -> None:
    with pytest.raises(InternalError, match="tensor w must be f32, found float64"):
        saved.save(Checkpoint(1, {"w": np.zeros(2)}, {}))  # an error of the trainer's
    assert names(saved) == []


def test_pruning_keeps_the_last_and_the_best(saved: Checkpoints) -> None:
    losses = {10: 3.0, 20: 1.0, 30: float("nan"), 40: 2.0, 50: None, 60: 1.0, 70: 4.0}
    for step, loss in losses.items():
        saved.save(make(step), dev_loss=loss)
        assert saved.linked("latest") == step
    assert saved.steps() == [20, 50, 60, 70]
    assert saved.linked("best") == 20, "an equal loss does not displace the earlier one"
    saved.save(make(80), dev_loss=0.5)
    assert names(saved) == ["best", "latest", "step-60", "step-70", "step-80"]
    assert saved.linked("best") == 80
    assert (saved.directory / "latest" / "state.json").is_file()
    assert os.readlink(saved.directory / "best") == "step-80", "a run directory may be moved"


def test_no_best_where_none_is_kept(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path, keep_last=1, keep_best=False)
    for step in (1, 2):
        saved.save(make(step), dev_loss=float(step))
    assert names(saved) == ["latest", "step-2"]
    with pytest.raises(UsageError, match="keep_last: must be at least 1, found 0"):
        Checkpoints(tmp_path, keep_last=0)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_one_of_the_same_step_is_replaced(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(module, "_exchange", lambda *_: False)
    for step in (1, 2):
        saved.save(make(step), dev_loss=1.0 / step)
    again = Checkpoint(2, make(2).weights, {}, {"again": True})
    saved.save(again, dev_loss=5.0)
    assert saved.load(2).record == {"again": True}
    assert names(saved) == ["best", "latest", "step-1", "step-2"]
    assert saved.linked("latest") == 2


def test_a_replaced_best_gives_way_to_the_better_one(saved: Checkpoints) -> None:
    for step, loss in ((1, 2.0), (2, 1.0), (2, 3.0)):
        saved.save(make(step), dev_loss=loss)
    assert saved.linked("best") == 1


def test_an_unknown_step_names_those_there_are(saved: Checkpoints) -> None:
    with pytest.raises(UsageError, match="needs a checkpoint, found none; start anew with ck train"):
        saved.load_newest(quiet)
    for step in (5, 10):
        saved.save(make(step))
    (saved.directory / "step-007").mkdir()
    (saved.directory / "step-x").mkdir()
    with pytest.raises(UsageError, match="step must be one that is kept, found 7; kept: 5, 10"):
        saved.load(7)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = json.loads((path / "MANIFEST.json").read_text())
        change(data)
        (path / "MANIFEST.json").write_text(json.dumps(data))

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (lambda p: flip(p / "weights.safetensors"), r"weights\.safetensors must have sha256 \w+, found"),
    "cut": (lambda p: os.truncate(p / "optimizer.safetensors", 5), r"must be \d+ bytes, found 5"),
    "state": (lambda p: flip(p / "state.json"), r"state\.json must have sha256"),
    "file gone": (lambda p: (p / "state.json").unlink(), r"must have state\.json, which is missing"),
    "no manifest": (lambda p: (p / "MANIFEST.json").unlink(), r"must have MANIFEST\.json, which is missing"),
    "empty manifest": (
        lambda p: (p / "MANIFEST.json").write_text(""),
        "must be a checkpoint of ck, Expecting",
    ),
    "list": (lambda p: (p / "MANIFEST.json").write_text("[]"), "must be a checkpoint of ck"),
    "deep": (lambda p: (p / "MANIFEST.json").write_text("[" * 99999), "must be a checkpoint of ck"),
    "another step": (manifest(lambda d: d.update(step=3)), "must be version 1 of step 2, found 1 of step 3"),
    "no entry": (
        manifest(lambda d: d["files"].pop("state.json")),
        "must be a checkpoint of ck, 'state.json'",
    ),
    "folder": (lambda p: [(p / "state.json").unlink(), (p / "state.json").mkdir()], "must be"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_one_is_skipped_and_said(saved: Checkpoints, kind: str) -> None:
    damage, reason = DAMAGE[kind]
    for step in (1, 2):
        saved.save(make(step))
    damage(saved.path(2))
    with pytest.raises(MalformedError, match=f"step-2: .*{reason}"):
        saved.load(2)
    said: list[str] = []
    assert_good(saved.load_newest(said.append))
    (line,) = said
    assert re.match(f"skipped step 2: .*step-2: .*{reason}", line)
    assert "\n" not in line
    damage(saved.path(1))
    with pytest.raises(MalformedError, match="needs a checkpoint that verifies, none of 2 does"):
        saved.load_newest(said.append)


def test_tensors_that_are_none_are_not_trusted_for_their_hash(saved: Checkpoints) -> None:
    """Whoever can write the manifest can make the hashes match."""
    import hashlib

    saved.save(make(1))
    for data in (b"", b"\xff" * 100, (10**9).to_bytes(8, "little") + b"{}"):
        (saved.path(1) / "weights.safetensors").write_bytes(data)
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "n_bytes": len(data)}
        manifest(lambda d, entry=entry: d["files"].update({"weights.safetensors": entry}))(saved.path(1))
        with pytest.raises(MalformedError, match="must be a checkpoint of ck"):
            saved.load(1)


@pytest.mark.parametrize(
    "text", ["[]", "{}", "3", '{"schema_version": 1, "step": 1, "dev_loss": "low", "record": {}}']
)
def test_a_state_that_is_none_is_not_trusted_for_its_hash(saved: Checkpoints, text: str) -> None:
    import hashlib

    saved.save(make(1))
    (saved.path(1) / "state.json").write_text(text)
    entry = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "n_bytes": len(text)}
    manifest(lambda d: d["files"].update({"state.json": entry}))(saved.path(1))
    for read in (saved.load, saved.verify):
        with pytest.raises(MalformedError, match=r"step-1: must be a checkpoint of ck, state\.json must "):
            read(1)


def test_the_newest_whose_weights_are_numbers(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path, keep_last=9)
    for step in (1, 2, 3, 4):
        saved.save(make(step))
    saved.save(Checkpoint(3, {"w": np.array([1, np.inf], np.float32)}, {}))
    (saved.path(2) / "weights.safetensors").write_bytes(b"")
    assert [saved.newest_finite(before=step) for step in (5, 4, 2, 1)] == [4, 1, 1, None]
    assert saved.verify(4) is None


def test_going_back_gives_up_what_came_after(tmp_path: Path) -> None:
    saved = Checkpoints(tmp_path, keep_last=9)
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.0), (4, 1.5)):
        saved.save(make(step), dev_loss=loss)
    assert saved.discard_after(4) == []
    assert saved.discard_after(2) == [3, 4]
    assert names(saved) == ["best", "latest", "step-1", "step-2"]
    assert (saved.linked("latest"), saved.linked("best")) == (2, 2)
    assert saved.discard_after(0) == [1, 2]
    assert names(saved) == []


def failure(kind: type[CkError], work: Callable[[], object]) -> str:
    """What `work` failed with, empty when it did not; it may fail in this way alone."""
    try:
        work()
    except kind as error:
        return str(error)
    return ""


@pytest.mark.parametrize("call", ["fsync", "rename", "replace", "symlink", "mkdir"])
@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, ResourceError), (errno.EROFS, MachineError)])
def test_a_disk_that_fails_at_any_call(
    saved: Checkpoints, monkeypatch: pytest.MonkeyPatch, call: str, code: int, kind: type[CkError]
) -> None:
    """Injected: the nth call fails, for every n there is."""
    real = getattr(os, call)
    for step in (1, 2, 3):
        saved.save(make(step))
    fails_at = 0
    failed = "not yet"
    while failed:
        calls = 0

        def fail(*given: Any, fails_at: int = fails_at, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > fails_at:
                raise OSError(code, os.strerror(code))
            return real(*given, **named)

        step = saved.steps()[-1] + 1
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            failed = failure(kind, lambda step=step: saved.save(make(step)))
        assert not failed or failed.endswith("what was saved is intact")
        newest = saved.load_newest(quiet)
        assert newest.step >= step - 1
        assert_good(newest)
        assert (saved.directory / "latest" / "MANIFEST.json").is_file()
        fails_at += 1
    assert not [name for name in names(saved) if name.startswith(".new-") and "latest" not in name]


# Saves until the disk is full, which must be soon, and prints the line for the user and what is left.
FILL = """
import os, resource, sys
from pathlib import Path
from ck.errors import CkError
from ck.train.checkpoints import Checkpoints
from tests.train.checkpoint_trials import assert_good, make
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
saved = Checkpoints(sys.argv[1], keep_last=100)
step = 0
try:
    while step < 50:
        saved.save(make(step + 1, n_floats=1000 * (step + 1)))
        step += 1
except CkError as error:
    print(error.exit_code, str(error).replace(sys.argv[1], ""))
newest = saved.load_newest(print)
assert_good(newest, n_floats=1000 * newest.step)
assert newest.step == step == saved.linked("latest") > 2
print(sorted(name for name in os.listdir(saved.directory) if name.startswith(".")))
"""


def test_a_small_disk_fills(tmp_path: Path) -> None:
    line, left = children.run_on_disk(FILL, tmp_path, n_kib=512).splitlines()
    expected = (
        r"8 /checkpoints/step-\d+: needs room on its disk, no space left on device; free some, what was"
    )
    assert re.match(expected, line)
    assert left == "[]"


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    line, left = children.run(FILL, tmp_path, 50_000).splitlines()
    assert re.match(
        r"8 /checkpoints/step-5: needs room on its disk, file too large; free some, what was", line
    )
    assert left == "[]"


# Remounted read-only under the trainer.
READ_ONLY = """
import subprocess, sys
from ck.errors import CkError
from ck.train.checkpoints import Checkpoints
from tests.train.checkpoint_trials import assert_good, make
saved = Checkpoints(sys.argv[1])
saved.save(make(1))
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
try:
    saved.save(make(2))
except CkError as error:
    print(error.exit_code, str(error).replace(sys.argv[1], ""))
assert_good(saved.load_newest(print))
print(saved.linked("latest"))
"""


def test_a_read_only_disk(tmp_path: Path) -> None:
    assert children.run_on_disk(READ_ONLY, tmp_path, n_kib=512).splitlines() == [
        "6 /checkpoints/step-2: must be writable, read-only file system; what was saved is intact",
        "1",
    ]


TRIALS = "import sys; from tests.train import checkpoint_trials; checkpoint_trials.{}(sys.argv[1])"


def test_killed_at_random_moments(tmp_path: Path, measured: Callable[[str], None]) -> None:
    report = json.loads(children.run(TRIALS.format("kill_at_random"), tmp_path))
    assert report["trials"] == 100
    assert report["interrupted"] > 20, "most kills must hit a save that was under way"
    measured(f"checkpoints: 100 kills, {report['interrupted']} of them amid a save, {report['saved']} saved")


def test_killed_at_every_call(tmp_path: Path) -> None:
    report = json.loads(children.run(TRIALS.format("kill_at_every_call"), tmp_path))
    assert report["trials"] > 60
    assert report["finished"] == 2, "each row of trials ends with one that outlives its save"
