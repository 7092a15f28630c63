"""`ChatTemplate`: a conversation as one prompt, by the jinja2 template that a model file carries.

A template is a program from a stranger. It runs in a child process (chat_worker.py) in jinja2's immutable
sandbox, with no files, no environment, 512 MiB, 2 s of processor time, 3 s of wall time and 4 MiB of text. A
child that breaks a limit is killed, and the next call starts another one.
"""

import json
import os
import select
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ck.errors import InternalError, MalformedError, ResourceError, UsageError
from ck.frontend.gguf.cursor import shown

if TYPE_CHECKING:
    from ck.frontend.tokenizer import Tokenizer

TEMPLATE_LIMIT_BYTES = 256 << 10
REQUEST_LIMIT_BYTES = 32 << 20
# 4 MiB of text, each byte as \uXXXX.
REPLY_LIMIT_BYTES = 25 << 20
WALL_SECONDS = 3.0
START_SECONDS = 60.0

# What a caller may set besides messages; anything else could shadow what ck itself passes.
ALLOWED_VARIABLES = frozenset(
    {
        "tools", "documents", "custom_tools", "builtin_tools", "xml_tools", "python_tools",
        "tools_in_user_message", "tool_call_format", "enable_thinking", "thinking", "preserve_thinking",
        "clear_thinking", "reasoning_effort", "date_string", "add_vision_id",
    }
)  # fmt: skip

# What a message may call the thinking before its content; a template reads the first or the second.
_THOUGHT_NAMES = ("reasoning_content", "thinking", "reasoning")

Message = Mapping[str, Any]


class ChatTemplate:
    """The template `source` of one model, with the texts of its BOS and EOS tokens ("" where it has none).

    The text is what transformers' apply_chat_template makes of the same messages and variables. `render` may
    be called from any thread; one child serves all calls, started by the first.
    Raises MalformedError when the template has more than 256 KiB.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        n_bytes = len(source.encode())
        if n_bytes > TEMPLATE_LIMIT_BYTES:
            raise MalformedError(
                f"a chat template must have at most {TEMPLATE_LIMIT_BYTES} bytes, found {n_bytes}"
            )
        self.source = source
        self._fixed = {"bos_token": bos, "eos_token": eos, "tools": None, "documents": None}
        self._lock = Lock()
        self._worker: _Worker | None = None

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for `messages`, each {"role", "content", ...}; keys whose value is None do not count.

        Raises MalformedError when the template has an error, asks for what the sandbox refuses or breaks a
        limit; UsageError when it refuses the messages, or a variable is not one of ALLOWED_VARIABLES.
        """
        unknown = sorted(set(variables or {}) - ALLOWED_VARIABLES)
        if unknown:
            known = ", ".join(sorted(ALLOWED_VARIABLES))
            raise UsageError(f"a template variable must be one of {known}, found {shown(unknown[0])}")
        given = {**self._fixed, **(variables or {}), "messages": list(map(_as_templates_read, messages))}
        given["add_generation_prompt"] = add_generation_prompt
        request = _request({"template": self.source, "variables": given})
        if len(request) > REQUEST_LIMIT_BYTES:
            raise ResourceError(
                f"a conversation must have at most {REQUEST_LIMIT_BYTES} bytes, found {len(request)}"
            )
        with self._lock:
            return self._ask(request)

    @property
    def child_pid(self) -> int | None:
        """The running child, if there is one."""
        return None if self._worker is None else self._worker.pid

    def close(self) -> None:
        """End the child; the next render starts another one."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _ask(self, request: bytes) -> str:
        if self._worker is None:
            self._worker = _Worker()
        reply: dict[str, str] = {}
        try:
            reply = json.loads(self._worker.ask(request))
        except _BreachError as problem:
            raise MalformedError(f"chat template: {problem}; try --chat-template none") from None
        finally:
            # Also when interrupted: a late reply must not become the next call's.
            if reply.get("kind", "limit" if not reply else "") == "limit":
                self.close()
        if "text" in reply:
            return reply["text"]
        text = shown(reply["error"]).rstrip(".")
        if reply["kind"] == "refused":
            raise UsageError(f"chat template: {text}")
        raise MalformedError(f"chat template: {text}; try --chat-template none")


def template_of(source: str, tokenizer: "Tokenizer") -> ChatTemplate:
    """The template `source` with the BOS and EOS of `tokenizer`. Raises as ChatTemplate."""
    ends = (tokenizer.bos_id, tokenizer.eos_id)
    bos, eos = (b"" if token is None else tokenizer.piece(token) for token in ends)
    return ChatTemplate(source, bos.decode(errors="replace"), eos.decode(errors="replace"))


def encode_chat(tokenizer: "Tokenizer", prompt: str) -> list[int]:
    """The ids of what a chat template has written: BOS, where the tokenizer adds one, is there once."""
    ids = tokenizer.encode(prompt, add_special=False, parse_special=True)
    if tokenizer.add_bos and tokenizer.bos_id is not None and ids[:1] != [tokenizer.bos_id]:
        return [tokenizer.bos_id, *ids]
    return ids


def _as_templates_read(message: Message) -> dict[str, Any]:
    """A message without keys of no value, its thinking under both names that templates read.

    Source: transformers, utils/chat_template_utils.py.
    """
    plain = {key: value for key, value in message.items() if value is not None}
    thought = next((plain[name] for name in _THOUGHT_NAMES if name in plain), None)
    return plain if thought is None else {"thinking": thought, **plain, "reasoning_content": thought}


def _request(fields: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(fields).encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise UsageError(f"a conversation must be JSON: {shown(str(problem))}") from None


class _BreachError(Exception):
    """The child took too long, said too much or died."""


class _Worker:
    """A child process and its two pipes."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("chat_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={},
            cwd="/",
            # Ctrl-C at the terminal is for the parent.
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.stop = weakref.finalize(self, _end, self._process)
        try:
            self._read_frame(START_SECONDS)
        except _BreachError as problem:
            self.stop()
            raise InternalError(f"the template process must start, {problem}") from None

    def ask(self, request: bytes) -> bytes:
        """The reply to one request. Raises _BreachError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack("<I", len(request)) + request)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise _BreachError("its process ended early") from None
        return self._read_frame(WALL_SECONDS)

    def _read_frame(self, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        size = struct.unpack("<I", self._read(4, deadline))[0]
        if size > REPLY_LIMIT_BYTES:
            raise _BreachError(f"it must say at most {REPLY_LIMIT_BYTES} bytes, it says {size}")
        return self._read(size, deadline)

    def _read(self, n_bytes: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        data = bytearray()
        while len(data) < n_bytes:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise _BreachError(f"it must be done after {WALL_SECONDS:.0f} s, it is not")
            chunk = os.read(pipe, n_bytes - len(data))
            if not chunk:
                raise _BreachError("it must keep to its processor time and memory, it was stopped")
            data += chunk
        return bytes(data)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
