"""What a run measures: a line of JSON a step in `metrics.jsonl`, as it happens, and TensorBoard event files.

    {"step", "loss", "lr", "grad_norm", "tokens",     an update; tokens seen since the run began
     "tokens_per_second", "wall_seconds"}
    {"step", "dev_loss", "dev_bits_per_byte"}         a pass over the dev data after that update

Lines of a resumed run equal those of a straight one but for the fields in TIMES. A number is written with the
digits that give the same float back; JSON has no NaN and no infinities, so these are the strings "NaN",
"Infinity" and "-Infinity". A dev line goes in before the checkpoint of its step: resuming there keeps it.
"""

import json
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any

from ck.errors import MalformedError, UsageError
from ck.train.events import EventFile
from ck.train.rundir import disk_errors, write_atomically

FILE = "metrics.jsonl"
# The fields that differ when the same run is made again.
TIMES = ("tokens_per_second", "wall_seconds")
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class MetricsLog(AbstractContextManager["MetricsLog"]):
    """Appends to one run's metrics, and unless told otherwise to its TensorBoard files."""

    def __init__(self, run_dir: str | os.PathLike[str], tensorboard: bool = True) -> None:
        self.path = Path(run_dir) / FILE
        self._events: EventFile | None = None
        with disk_errors(self.path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._handle = os.open(self.path, flags, 0o600)
        self._wants_events = tensorboard

    def log_step(
        self,
        step: int,
        *,
        loss: float,
        lr: float,
        grad_norm: float,
        tokens: int,
        tokens_per_second: float,
        wall_seconds: float,
    ) -> None:
        """The line of an update. Raises ResourceError when the disk is full; nothing torn stays then."""
        fields: dict[str, float] = {"loss": loss, "lr": lr, "grad_norm": grad_norm, "tokens": tokens}
        fields |= {"tokens_per_second": tokens_per_second, "wall_seconds": wall_seconds}
        self._append(step, fields)

    def log_dev(self, step: int, *, dev_loss: float, dev_bits_per_byte: float) -> None:
        """The line of a pass over the dev data after update `step`."""
        self._append(step, {"dev_loss": dev_loss, "dev_bits_per_byte": dev_bits_per_byte})

    def sync(self) -> None:
        """Put what was appended on disk. Before a checkpoint, so that none is ahead of its metrics."""
        with disk_errors(self.path):
            os.fsync(self._handle)
            if self._events:
                self._events.sync()

    def truncate_after(self, step: int) -> None:
        """Drop the lines after `step`, and torn ones: what a run that resumes at `step` makes again.

        TensorBoard is told to forget them too, by the event file that comes next.
        """
        with disk_errors(self.path):
            lines = self.path.read_bytes().splitlines(keepends=True)
            kept = b"".join(line for line in lines if _keeps(line, step))
            if kept != b"".join(lines):
                write_atomically(self.path, kept)
                os.close(self._handle)
                self._handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            if self._wants_events:
                self._close_events()
                self._events = EventFile(self.path.parent / "tensorboard", step + 1)

    def close(self) -> None:
        """Sync and close. More than once is fine."""
        if self._handle < 0:
            return
        self.sync()
        self._close_events()
        os.close(self._handle)
        self._handle = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, step: int, fields: Mapping[str, float]) -> None:
        line = json.dumps({"step": step} | {name: _json_number(value) for name, value in fields.items()})
        data = (line + "\n").encode()
        with disk_errors(self.path):
            before = os.fstat(self._handle).st_size
            try:
                written = os.write(self._handle, data)
                if written < len(data):
                    os.write(self._handle, data[written:])
            except OSError:
                os.ftruncate(self._handle, before)
                raise
            if self._wants_events:
                self._events = self._events or EventFile(self.path.parent / "tensorboard", None)
                self._events.write(step, fields)

    def _close_events(self) -> None:
        if self._events:
            self._events.close()
            self._events = None


def read_metrics(run_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of a run's metrics, in order, as numbers; a last line that is torn is left out.

    Raises MalformedError naming the line when another one is damaged.
    """
    path = Path(run_dir) / FILE
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        raise UsageError(f"{path}: must be a run's metrics, found no file") from None
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            found.append({name: _NUMBERS.get(value, value) for name, value in fields.items()})
        except (ValueError, AttributeError, TypeError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise MalformedError(f"{path}:{number}: must be an object in JSON, {error}") from error
    return found


def _keeps(line: bytes, step: int) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= step
    except (ValueError, TypeError, KeyError):
        return False


def _json_number(value: float) -> float | int | str:
    # numpy's scalars are neither int nor float to json.
    if isinstance(value, Integral):
        return int(value)
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
