"""Run directories: names, one trainer at a time, files that are whole, disks that are full or read-only."""

import errno
import os
import signal
from pathlib import Path

import pytest

from ck.errors import CkError, ConflictError, MachineError, MalformedError, ResourceError, UsageError
from ck.train.rundir import RunDirectory, run_name, write_atomically
from tests.train import children


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def run(cache: Path) -> RunDirectory:
    return RunDirectory.create("a-run")


def test_a_plain_name_lies_in_the_cache(cache: Path) -> None:
    run = RunDirectory.create("small-1.0")
    assert run.path == cache / "train" / "small-1.0"
    assert run.path.stat().st_mode & 0o777 == 0o700
    run.write_json("run.json", {})
    assert RunDirectory.open("small-1.0").path == run.path
    assert os.fspath(run) == str(run.path)


def test_a_path_lies_where_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert RunDirectory.create("./runs/a b").path == tmp_path / "runs" / "a b"
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="file/run: must be writable, not a directory"):
        RunDirectory.create("./file/run")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-flag", "a b", "ä", "a\n", "x" * 101])
def test_other_names_are_refused(cache: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--run: must be at most 100 letters"):
        RunDirectory.create(name)


def test_a_run_is_not_begun_twice(run: RunDirectory) -> None:
    # A trainer that died before it wrote run.json left nothing to lose.
    assert RunDirectory.create("a-run").path == run.path
    run.write_json("run.json", {})
    with pytest.raises(ConflictError, match="must be a new run, found one; run: ck resume a-run") as caught:
        RunDirectory.create("a-run")
    assert caught.value.exit_code == 9


def test_what_is_no_run_is_not_opened(run: RunDirectory) -> None:
    with pytest.raises(UsageError, match=r"a-run: must be a run directory, has no run\.json"):
        RunDirectory.open("a-run")


def test_a_directory_of_somebody_elses_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for name in ("data/notes.txt", "build/x.o", ".new-idea", "checkpoints/.new-y"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    before = sorted(folder.rglob("*"))
    with pytest.raises(
        ConflictError, match=r"own: must be empty, not there yet, .* found \.new-idea; choose"
    ):
        RunDirectory.create(str(folder))
    assert sorted(folder.rglob("*")) == before
    # A lock alone does not make it a run: what ck does not know stays.
    (folder / "thesis.tex").write_text("")
    with RunDirectory(folder).lock():
        assert (folder / ".new-idea").exists()
    with pytest.raises(ConflictError, match=r"found thesis\.tex; choose"):
        RunDirectory.create(str(folder))
    # What a start that failed has left is ck's own.
    (folder / "thesis.tex").unlink()
    assert RunDirectory.create(str(folder)).path == folder
    with pytest.raises(UsageError, match="--run: must be a directory of the run's own, found /; give"):
        RunDirectory.create("/")


def test_run_and_data_lie_apart(tmp_path: Path) -> None:
    data = tmp_path / "corpus"
    (data / "runs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data)
    for place in (data, data / "runs" / "a", tmp_path / "link" / "b"):
        with pytest.raises(
            UsageError, match=r"--run: must lie outside of the data, found .* move one of them"
        ):
            RunDirectory.create(str(place), [data])
    text = tmp_path / "run" / "c.txt"
    with pytest.raises(UsageError, match=r"--data: must lie outside of the run, found .*c\.txt in .*/run;"):
        RunDirectory.create(str(text.parent), [data, text])
    assert not text.parent.exists()
    # Hidden folders are not read.
    assert RunDirectory.create(str(data / ".runs" / "a"), [data]).path.is_dir()


def test_a_run_is_named_by_a_text_or_a_path() -> None:
    assert run_name("a") == "a"
    assert run_name(Path("a")) == "./a"
    assert run_name(Path("runs/a")) == "runs/a"
    for wrong in (3, None, ["a"], b"a"):
        with pytest.raises(UsageError, match="run: must be a name or a path, found "):
            run_name(wrong)


def test_a_damaged_record_is_named(run: RunDirectory) -> None:
    (run.path / "run.json").write_text("[]")
    with pytest.raises(MalformedError, match=r"a-run/run\.json: must be a JSON object, found list"):
        RunDirectory.open("a-run")


def test_json_comes_back(run: RunDirectory) -> None:
    data = {"loss": 0.1 + 0.2, "text": "ä\n", "none": None}
    path = run.write_json("run.json", data)
    assert run.read_json("run.json") == data
    assert path.read_text().endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("run.json", {"loss": float("nan")})
    with pytest.raises(UsageError, match=r"other\.json: must be a file, found none"):
        run.read_json("other.json")
    path.write_text('{"a": ')
    with pytest.raises(MalformedError, match=r"run\.json: must be JSON, Expecting value"):
        run.read_json("run.json")


@pytest.mark.parametrize(
    ("code", "kind", "line"),
    [
        (errno.ENOSPC, ResourceError, "needs room on its disk, no space left on device; free some"),
        (errno.EDQUOT, ResourceError, "needs room on its disk, disk quota exceeded; free some"),
        (errno.EIO, MachineError, "must be writable, input/output error; what was saved is intact"),
    ],
)
def test_a_write_that_fails_leaves_the_earlier_file(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[CkError], line: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    run.write_bytes("state", b"earlier")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(kind, match=f"state: {line}"):
            run.write_bytes("state", b"later")
    assert (run.path / "state").read_bytes() == b"earlier"
    assert os.listdir(run.path) == ["state"]


# Sees its disk filled, then read-only, and prints the lines that a user would.
DISK = """
import os, subprocess, sys
from ck.errors import CkError
from ck.train.rundir import RunDirectory
run = RunDirectory.create(sys.argv[1])
run.write_json("run.json", {"step": 1})
def attempt():
    try:
        run.write_bytes("run.json", bytes(1 << 20))
        with run.lock():
            print("locked")
    except CkError as error:
        print(error.exit_code, error)
attempt()
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
attempt()
try:
    with run.lock():
        print("locked")
except CkError as error:
    print(error.exit_code, error)
print(run.read_json("run.json"), os.listdir(run.path))
"""


def test_full_and_read_only_disks(tmp_path: Path) -> None:
    lines = children.run_on_disk(DISK, tmp_path, n_kib=256).splitlines()
    intact = "what was saved is intact"
    assert lines == [
        f"8 {tmp_path}/run.json: needs room on its disk, no space left on device; free some, {intact}",
        f"6 {tmp_path}/run.json: must be writable, read-only file system; {intact}",
        f"6 {tmp_path}/run.lock: must be writable, read-only file system; {intact}",
        "{'step': 1} ['run.json']",
    ]


HOLD = """
import sys, time
from pathlib import Path
from ck.train.rundir import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_one_trainer_at_a_time(run: RunDirectory) -> None:
    # A process id that a killed trainer left, longer than the next one.
    run.write_bytes("run.lock", b"123456789012\n")
    child = children.start(HOLD, run.path)
    assert child.stdout
    try:
        assert child.stdout.readline() == "locked\n"
        run.write_bytes("data", b"")
        scratch = [run.path / ".new-x", run.path / "checkpoints" / ".new-y"]
        for folder in scratch:
            folder.mkdir(parents=True)
            (folder / "half").write_text("")
        expected = f"a-run: one trainer at a time, process {child.pid} is at work; .* kill {child.pid}"
        with pytest.raises(ConflictError, match=expected) as caught, run.lock():
            pass
        assert caught.value.exit_code == 9
        assert all(folder.exists() for folder in scratch), "another trainer's scratch is its own"
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    with run.lock():
        assert (run.path / "run.lock").read_text() == f"{os.getpid()}\n"
        assert not any(folder.exists() for folder in scratch)
        with pytest.raises(ConflictError, match=f"process {os.getpid()} is at work"), run.lock():
            pass
    assert (run.path / "data").exists()
    with run.lock():
        pass


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"gone/file: must be writable, no such file or directory"):
        write_atomically(tmp_path / "gone" / "file", b"")
