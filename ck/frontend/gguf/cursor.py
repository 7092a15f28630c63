"""A position in a GGUF header that cannot leave it: every length is compared with what is left first."""

import struct
from mmap import mmap

from ck.errors import MalformedError

# Far above any real header (262,144 tokens take 6.5 MB), low enough that decoding all of it stays small.
HEADER_LIMIT_BYTES = 64 << 20

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


def shown(text: str | bytes) -> str:
    """`text` from a file as it may stand in an error message: one line, escaped, at most 80 characters."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    clear = "".join(_escaped(char) for char in text[:81])
    return clear if len(clear) <= 80 else clear[:77] + "..."


def _escaped(char: str) -> str:
    return char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()


class Cursor:
    """Reads little-endian fields of `data`, the mapping of file `name`, from `position` on.

    Each read names its field; one that would pass the end raises MalformedError before anything is allocated.
    """

    def __init__(self, data: mmap, name: str) -> None:
        self.data = data
        self.name = shown(name)
        self.position = 0
        self.end = min(len(data), HEADER_LIMIT_BYTES)

    def error(self, text: str) -> MalformedError:
        """The error `text` about this file."""
        return MalformedError(f"{self.name}: {text}")

    def claim(self, n_bytes: int, what: str) -> int:
        """Where the next `n_bytes` bytes start; the position moves behind them."""
        start, left = self.position, self.end - self.position
        if n_bytes > left:
            raise self.error(f"{what} at byte {start} takes {n_bytes} bytes, {self._left(left)}")
        self.position = start + n_bytes
        return start

    def u32(self, what: str) -> int:
        """One unsigned 32-bit field."""
        return int(_U32.unpack_from(self.data, self.claim(4, what))[0])

    def u64(self, what: str) -> int:
        """One unsigned 64-bit field."""
        return int(_U64.unpack_from(self.data, self.claim(8, what))[0])

    def unpack(self, layout: struct.Struct, what: str) -> int | float:
        """One number of the layout's type."""
        value: int | float = layout.unpack_from(self.data, self.claim(layout.size, what))[0]
        return value

    def string(self, what: str, limit: int) -> str:
        """A length and that many bytes of UTF-8, at most `limit`."""
        n_bytes = self.u64(f"length of {what}")
        if n_bytes > limit:
            raise self.error(f"{what} must have at most {limit} bytes, found {n_bytes}")
        start = self.claim(n_bytes, what)
        return self.text(start, n_bytes, what)

    def text(self, start: int, n_bytes: int, what: str) -> str:
        """The UTF-8 text in [start, start + n_bytes)."""
        try:
            return self.data[start : start + n_bytes].decode()
        except UnicodeDecodeError as problem:
            at = start + problem.start
            raise self.error(f"{what} must be UTF-8, byte {at} of the file is not") from None

    def skip_strings(self, count: int, what: str) -> None:
        """Pass over `count` strings, reading lengths only: 50,000 of them take some 5 ms."""
        unpack, data, position, end = _U64.unpack_from, self.data, self.position, self.end
        try:
            for _ in range(count):
                position += 8 + unpack(data, position)[0]
        except (struct.error, OverflowError):
            position = end + 1
        if position > end:
            left = self._left(end - self.position)
            raise self.error(f"the strings of {what} must end within the header, {left}")
        self.position = position

    def strings(self, start: int, count: int, what: str) -> list[str]:
        """The `count` strings from byte `start` on, which skip_strings passed over before."""
        unpack, data, position = _U64.unpack_from, self.data, start
        texts: list[str] = []
        append = texts.append
        try:
            for _ in range(count):
                position += 8
                stop = position + unpack(data, position - 8)[0]
                append(data[position:stop].decode())
                position = stop
        except UnicodeDecodeError as problem:
            at = position + problem.start
            raise self.error(f"string {len(texts)} of {what} must be UTF-8, byte {at} is not") from None
        return texts

    def _left(self, left: int) -> str:
        if self.end < len(self.data):
            return f"{left} are left of the {HEADER_LIMIT_BYTES >> 20} MiB that a header may have"
        return f"{left} are left in the file"
