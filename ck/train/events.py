"""TensorBoard event files: a record for each step, written by the thread that trains.

A file is a row of records: length u64, its checksum u32, an `Event` of that length, its checksum u32, all
little-endian. The checksum is CRC-32C (polynomial 0x82F63B78, reflected), rotated right by 15 and then
0xA282EAD8 more, modulo 2^32. Source: tensorflow/core/lib/io/record_writer.h; the fields of an Event:
tensorflow/core/util/event.proto and framework/summary.proto. Packages that write these files import PyTorch
where it is installed, which costs a trainer a second and 200 MB.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

# Field number << 3 | wire type: 0 varint, 1 eight bytes, 2 bytes behind their length, 5 four bytes.
_WALL_TIME, _STEP, _VERSION, _SUMMARY, _SESSION = b"\x09", b"\x10", b"\x1a", b"\x2a", b"\x3a"
_VALUE, _TAG, _SIMPLE_VALUE = b"\x0a", b"\x0a", b"\x15"
# SessionLog.status = START.
_START = b"\x08\x01"
# A file is synced this often, and when it is asked to.
_SYNC_S = 30.0


class EventFile:
    """One event file in `directory`. Its errors are the system's own."""

    def __init__(self, directory: Path, purge_from: int | None) -> None:
        """With purge_from TensorBoard forgets what earlier files say about that step and later ones."""
        directory.mkdir(mode=0o700, exist_ok=True)
        # In the order of time, which is the order TensorBoard reads them in; two in one second are two files.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._handle = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._synced = time.monotonic()
        self._put(0, _VERSION + _bytes(b"brain.Event:2"))
        if purge_from is not None:
            self._put(purge_from, _SESSION + _bytes(_START))

    def write(self, step: int, fields: Mapping[str, float]) -> None:
        """The numbers of a step."""
        values = (
            _VALUE + _bytes(_TAG + _bytes(name.encode()) + _SIMPLE_VALUE + _f32(value))
            for name, value in fields.items()
        )
        self._put(step, _SUMMARY + _bytes(b"".join(values)))
        if time.monotonic() - self._synced > _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Put what was written on disk."""
        os.fsync(self._handle)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _put(self, step: int, what: bytes) -> None:
        event = _WALL_TIME + struct.pack("<d", time.time()) + _STEP + _varint(step) + what
        length = struct.pack("<Q", len(event))
        record = length + _checksum(length) + event + _checksum(event)
        before = os.fstat(self._handle).st_size
        try:
            written = os.write(self._handle, record)
            if written < len(record):
                os.write(self._handle, record[written:])
        except OSError:
            # No reader gets past a torn record.
            os.ftruncate(self._handle, before)
            os.lseek(self._handle, before, os.SEEK_SET)
            raise


def _bytes(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _f32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def _crc_table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
        table.append(crc)
    return tuple(table)


_TABLE = _crc_table()


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
