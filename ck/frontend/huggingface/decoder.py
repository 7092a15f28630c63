"""The decoder of a tokenizer.json, read as what one token stands for.

A model says its tokens one by one, so a text is the bytes of its tokens in a row. Of the library's decoders
those are read that work so: steps on one token, and then at most one space less before the whole.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ck.errors import UnsupportedError
from ck.frontend.gguf.cursor import shown
from ck.frontend.tokenizer import BYTE_OF_CHAR

Step = Callable[[str], str]


@dataclass
class Decoder:
    """What a token stands for.

    kind          "byte_pairs" when each character of a token is a byte, else "pieces"
    byte_tokens   <0x00> to <0xFF> are bytes
    strips_space  a text loses the space before it
    """

    kind: str = "pieces"
    byte_tokens: bool = False
    strips_space: bool = False
    _steps: list[Step] = field(default_factory=list[Step])

    def bytes_of(self, text: str) -> bytes:
        """The bytes of the token that is written `text`."""
        if self.kind == "byte_pairs":
            found = [BYTE_OF_CHAR.get(char) for char in text]
            return text.encode() if None in found else b"".join(byte for byte in found if byte is not None)
        for step in self._steps:
            text = step(text)
        if self.byte_tokens and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            try:
                return bytes([int(text[3:5], 16)])
            except ValueError:
                pass
        return text.encode()

    def replace(self, old: str, new: str) -> None:
        """Write `new` for `old` in every token."""
        self._steps.append(lambda text: text.replace(old, new))


def read_decoder(core: Any, where: str) -> Decoder:
    """The library's decoder `core`, or None. Raises UnsupportedError unless it decodes single tokens."""
    if core is None:
        raise UnsupportedError(f"{where}: must have a decoder, found none")
    steps = _flat(json.loads(core.__getstate__()))
    decoder = Decoder()
    fused = False
    of_bytes = any(step["type"] == "ByteLevel" for step in steps)
    for step in steps:
        # Characters that are bytes leave nothing for another step to do.
        is_odd = of_bytes and step["type"] not in ("ByteLevel", "Fuse")
        if is_odd or not _read(decoder, step, fused):
            found = shown(json.dumps(step, ensure_ascii=False))
            raise UnsupportedError(f"{where}: ck has no decoder {found} in this place")
        fused = fused or step["type"] == "Fuse"
    return decoder


def _flat(step: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if step["type"] != "Sequence":
        return [step]
    return [inner for part in step["decoders"] for inner in _flat(part)]


def _read(decoder: Decoder, step: Mapping[str, Any], fused: bool) -> bool:
    """Take one step into `decoder`; whether ck has it."""
    match step:
        case {"type": "Fuse"}:
            return True
        case {"type": "ByteLevel"} if not fused:
            decoder.kind = "byte_pairs"
            return True
        case {"type": "ByteFallback"} if not fused:
            decoder.byte_tokens = True
            return True
        case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if not fused:
            decoder.replace(old, new)
            return True
        case {"type": "Metaspace", "replacement": str(mark), "prepend_scheme": str(scheme)} if not fused:
            decoder.replace(mark, " ")
            decoder.strips_space = scheme != "never"
            return True
        case {"type": "Strip", "content": " ", "start": int(start), "stop": 0} if fused and start <= 1:
            decoder.strips_space = start == 1
            return True
        case _:
            return False
