"""Metrics: lines that round-trip, what a resume keeps of them, disks that fill, TensorBoard's event files."""

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ck.errors import MalformedError, ResourceError, UsageError
from ck.train.metrics import TIMES, MetricsLog, read_metrics
from tests.train import children


def step_fields(step: int) -> dict[str, Any]:
    """Figures with all their digits, as a run makes them."""
    loss = float(np.float32(5 * math.exp(-step / 7)))
    return {"loss": loss, "lr": 3e-4 * step / 7, "grad_norm": 1 / (step + 1), "tokens": 1024 * step}


def log_steps(log: MetricsLog, first: int, last: int) -> None:
    for step in range(first, last + 1):
        log.log_step(step, **step_fields(step), tokens_per_second=1e4 / 3, wall_seconds=step / 3)
        if step % 2 == 0:
            log.log_dev(step, dev_loss=2.0 + 1 / step, dev_bits_per_byte=1 / step)


def plain(run: Path) -> MetricsLog:
    return MetricsLog(run, tensorboard=False)


def test_a_line_is_there_as_it_happens_and_comes_back(tmp_path: Path) -> None:
    with plain(tmp_path) as log:
        log_steps(log, 1, 2)
        found = read_metrics(tmp_path)
    first = {"step": 1, **step_fields(1), "tokens_per_second": 1e4 / 3, "wall_seconds": 1 / 3}
    assert found[0] == first
    assert list(found[0]) == list(first)
    assert found[2] == {"step": 2, "dev_loss": 2.5, "dev_bits_per_byte": 0.5}
    assert [line["step"] for line in found] == [1, 2, 2]
    assert set(TIMES) < set(found[0])


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_floats_keep_their_bits(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(1))
    values = rng.integers(0, 2**64, 3000, np.uint64).view(np.float64).tolist()
    values += [0.1 + 0.2, 5e-324, -0.0, math.nan, math.inf, -math.inf]
    with plain(tmp_path) as log:
        for step, value in enumerate(values):
            log.log_dev(step, dev_loss=value, dev_bits_per_byte=np.float32(0.1))
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        strict(line)
    found = read_metrics(tmp_path)
    for value, line in zip(values, found, strict=True):
        assert struct.pack("d", line["dev_loss"]) == struct.pack("d", value) or math.isnan(value)
        assert line["dev_bits_per_byte"] == float(np.float32(0.1))
    assert [math.isnan(found[-3]["dev_loss"]), *(line["dev_loss"] for line in found[-2:])] == [
        True,
        math.inf,
        -math.inf,
    ]


def test_numpy_counts_are_counts(tmp_path: Path) -> None:
    with plain(tmp_path) as log:
        fields = {**step_fields(1), "tokens": np.int64(2048)}
        log.log_step(1, **fields, tokens_per_second=1.0, wall_seconds=1.0)
    assert '"tokens": 2048,' in (tmp_path / "metrics.jsonl").read_text()


def test_resumed_equals_straight_but_for_the_times(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("straight", "resumed")]
    for run in runs:
        run.mkdir()
    with plain(runs[0]) as log:
        log_steps(log, 1, 20)
    with plain(runs[1]) as log:
        log_steps(log, 1, 13)
    path = runs[1] / "metrics.jsonl"
    # Killed while it wrote a line.
    os.truncate(path, path.stat().st_size - 9)
    with plain(runs[1]) as log:
        log.truncate_after(8)
        assert [line["step"] for line in read_metrics(runs[1])][-2:] == [8, 8], "the dev line stays"
        log_steps(log, 9, 20)
    straight, resumed = (read_metrics(run) for run in runs)
    assert resumed == straight
    assert os.listdir(runs[1]) == ["metrics.jsonl"]


def test_truncating_drops_what_is_torn_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "loss": 2.0}\n{"step": 2, "lo\n[3]\n\xff\n{"step": 10, "loss": 1.0}\n{"step": 3}'
    )
    with plain(tmp_path) as log:
        log.truncate_after(9)
        assert path.read_bytes() == b'{"step": 1, "loss": 2.0}\n'
        before = path.stat().st_ino
        log.truncate_after(9)
        assert path.stat().st_ino == before, "nothing to drop, nothing to write"
        log.truncate_after(0)
    assert path.read_bytes() == b""


def test_reading_names_the_damaged_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(UsageError, match=r"metrics\.jsonl: must be a run's metrics, found no file"):
        read_metrics(tmp_path)
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1}], "a torn end is what a kill leaves"
    path.write_text('{"step": 1}\n{"st\n{"step": 2}\n')
    with pytest.raises(MalformedError, match=r"metrics\.jsonl:2: must be an object in JSON"):
        read_metrics(tmp_path)
    path.write_text("[1]\n")
    with pytest.raises(MalformedError, match=r"metrics\.jsonl:1: must be an object in JSON"):
        read_metrics(tmp_path)


# Logs until the disk is full.
FILL = """
import sys
from ck.errors import CkError
from ck.train.metrics import MetricsLog, read_metrics
from tests.train.test_metrics import log_steps
log = MetricsLog(sys.argv[1], tensorboard=False)
try:
    for step in range(1, 10000):
        log_steps(log, step, step)
except CkError as error:
    print(error.exit_code, str(error).replace(sys.argv[1], ""))
text = log.path.read_text()
print(step > 100, read_metrics(sys.argv[1])[-1]["step"] >= step - 1, text.endswith("}\\n"))
"""


def test_a_full_disk_tears_no_line(tmp_path: Path) -> None:
    assert children.run_on_disk(FILL, tmp_path, n_kib=64).splitlines() == [
        "8 /metrics.jsonl: needs room on its disk, no space left on device; free some, what was saved is "
        "intact",
        "True True True",
    ]


def test_a_write_that_is_cut_short_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def write(handle: int, data: bytes) -> int:
        if len(data) < 30:
            raise OSError(28, "No space left on device")
        return real(handle, data[: len(data) - 10])

    with plain(tmp_path) as log:
        log_steps(log, 1, 1)
        before = log.path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(ResourceError):
                log_steps(log, 2, 2)
        assert log.path.read_bytes() == before


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    log = plain(tmp_path)
    log.close()
    log.close()


def events(path: Path) -> list[Any]:
    """The events of a TFRecord file: length u64, its checksum u32, the data, its checksum u32."""
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        record = data[12 : 12 + length]
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked_crc32c(record)
        found.append(event_pb2.Event.FromString(record))
        data = data[16 + length :]
    return found


def test_event_files_hold_the_same(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log_steps(log, 1, 3)
    with MetricsLog(tmp_path) as log:
        log.truncate_after(2)
        log_steps(log, 3, 3)
    first, second = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    version, *found = events(first)
    assert version.file_version == "brain.Event:2"
    scalars = {
        (event.step, value.tag): value.simple_value for event in found for value in event.summary.value
    }
    expected = {
        (line["step"], name): np.float32(value)
        for line in read_metrics(tmp_path)
        for name, value in line.items()
        if name != "step"
    }
    assert scalars == expected
    _, start, *again = events(second)
    assert (start.step, start.session_log.status) == (3, start.session_log.START), (
        "TensorBoard forgets from here"
    )
    assert {event.step for event in again} == {3}


def test_event_files_need_no_package_and_are_not_torn(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from ck.train.events import EventFile

file = EventFile(Path(sys.argv[1]) / "tensorboard", None)
file.write(1, {"loss": float("nan"), "norm": 1e300})
path = next((Path(sys.argv[1]) / "tensorboard").iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, 1 << 30))
try:
    file.write(2, {"loss": 1.0})
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
file.write(3, {"loss": 2.0})
file.close()
print(sorted(sys.modules.keys() & {"torch", "tensorboardX", "tensorboard"}))
"""
    assert children.run(code, tmp_path).splitlines() == ["File too large", "[]"]
    version, first, third = events(next((tmp_path / "tensorboard").iterdir()))
    assert version.file_version == "brain.Event:2"
    loss, norm = first.summary.value
    assert math.isnan(loss.simple_value)
    assert norm.simple_value == math.inf
    assert third.step == 3
    assert third.summary.value[0].simple_value == 2.0
