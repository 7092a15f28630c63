"""`ck` with a stand-in for the compiler: `python tests/cli/stand_in.py VERB ...` talks to a model that says
what CK_STAND_IN_REPLY holds. Tokens are bytes, 256 ends a reply, 257 begins a text.
"""

import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

EOG, BOS = 256, 257
REPLY = "Paris is the capital of France."


class Executable:
    """Feeds nothing: after a prompt it says its reply, byte by byte. `fed` is every token it was given."""

    def __init__(self, reply: str, n_ctx: int, chunk: int, threads: int | None, delay_s: float = 0.0) -> None:
        self.n_ctx, self.n_vocab, self.chunk, self.n_threads = n_ctx, 258, chunk, threads or 2
        self.reply, self.delay_s = reply.encode(), delay_s
        self.tokens: list[int] = []
        self.fed: list[int] = []
        self.said = 0

    @property
    def pos(self) -> int:
        return len(self.tokens)

    def _feed(self, tokens: list[int]) -> Any:
        assert self.pos + len(tokens) <= self.n_ctx
        self.tokens += tokens
        self.fed += tokens
        logits = np.zeros(self.n_vocab, np.float32)
        logits[self.reply[self.said] if self.said < len(self.reply) else EOG] = 50
        return logits

    def prefill(self, tokens: Any) -> Any:
        self.said = 0
        return self._feed(tokens.tolist())

    def decode(self, token: int) -> Any:
        time.sleep(self.delay_s)
        self.said += 1
        return self._feed([token])

    def rewind(self, pos: int) -> bool:
        del self.tokens[pos:]
        return True

    def reset(self) -> None:
        self.tokens.clear()


class Tokenizer:
    n_vocab, bos_id, eos_id, add_bos = 258, BOS, EOG, True
    eog_ids = frozenset({EOG})

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        return [BOS] * add_special + list(text.encode())

    def guard(self, text: str) -> str:
        return text

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b"<end>" if token == EOG else b"<begin>"

    def is_control(self, token: int) -> bool:
        return token >= 256


class Template:
    def render(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return "".join(f"[{m['role']}]{m['content']}" for m in messages) + "[assistant]"


class Model:
    def __init__(self, exe: Executable, template: Template | None, info: dict[str, Any]) -> None:
        self.exe, self.chat_template, self.info, self.tokenizer = exe, template, info, Tokenizer()

    def ir(self, stage: str) -> str:
        return f"// {stage}\n"

    def source(self, backend: str) -> str:
        return f"{backend} generated;\n"

    def assembly(self) -> str:
        return "ret\n"

    def compiled(self, backend: str) -> bytes:
        return backend.encode()

    def explain(self) -> str:
        return "one group\n"


def compiler(
    reply: str = REPLY, base: bool = False, delay_s: float = 0.0, calls: list[Any] | None = None
) -> Callable[..., Model]:
    """A `ck.compile` whose models say `reply`; `calls` gets the arguments and the model of every call."""

    def compile_(path: Any, **options: Any) -> Model:
        exe = Executable(reply, options["context_len"] or 4096, options["chunk"], options["threads"], delay_s)
        model = Model(exe, None if base else Template(), {"program": __file__})
        if calls is not None:
            calls.append(SimpleNamespace(path=path, options=options, model=model))
        return model

    return compile_


if __name__ == "__main__":
    import ck
    from ck.cli.main import main

    delay_s = float(os.environ.get("CK_STAND_IN_DELAY", "0"))
    ck.compile = compiler(os.environ.get("CK_STAND_IN_REPLY", REPLY), delay_s=delay_s)
    sys.exit(main())
