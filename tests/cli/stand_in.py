"""`ck` with a stand-in for the compiler: `python tests/cli/stand_in.py VERB ...` talks to a model that says
what CK_STAND_IN_REPLY holds. Tokens are bytes, 256 ends a reply, 257 begins a text.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from ck.ir.rt.slots import CacheSlot
from ck.runtime.chat_state import StateKeeper
from ck.runtime.executable import Saved
from ck.runtime.state_file import StateIdentity

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

    def save(self) -> Any:
        raw = np.zeros(4 * self.n_ctx, np.uint8)
        raw.view(np.int32)[: self.pos] = self.tokens
        return Saved(self.pos, self.pos, (raw,))

    def load(self, saved: Any) -> None:
        self.tokens = saved.caches[0].view(np.int32)[: saved.pos].tolist()

    def identity(self, model: str) -> Any:
        slot = CacheSlot("tokens", "state", (self.n_ctx,), "i32", 4 * self.n_ctx)
        return StateIdentity(model, model, {"context_len": self.n_ctx, "kv": "f16"}, (slot,))


class Tokenizer:
    n_vocab, bos_id, eos_id, add_bos = 258, BOS, EOG, True
    eog_ids = frozenset({EOG})

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        begin, *rest = text.split("<end>") if parse_special else [text]
        ids = list(begin.encode())
        for part in rest:
            ids += [EOG, *part.encode()]
        return [BOS] * add_special + ids

    def guard(self, text: str) -> str:
        return text

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b"<end>" if token == EOG else b"<begin>"

    def is_control(self, token: int) -> bool:
        return token >= 256


class Template:
    """Names of roles in brackets; with `thinks`, a switch that closes the thought before it is thought."""

    def __init__(self, thinks: bool = False) -> None:
        self.source = "{{ enable_thinking }} <think></think>" if thinks else "{{ messages }}"
        self.thinks = thinks

    def render(
        self,
        messages: Sequence[Mapping[str, str]],
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        ends = {"assistant": "<end>"}
        text = "".join(f"[{m['role']}]{m['content']}{ends.get(m['role'], '')}" for m in messages)
        off = self.thinks and variables is not None and variables.get("enable_thinking") is False
        return text + ("[assistant]" if add_generation_prompt else "") + ("<think></think>" if off else "")


class Model:
    def __init__(self, exe: Executable, template: Template | None, info: dict[str, Any]) -> None:
        self.exe, self.chat_template, self.info, self.tokenizer = exe, template, info, Tokenizer()
        self.file = SimpleNamespace(skipped=())
        self.sampling: Any = None
        self.keeper = StateKeeper(exe, lambda: exe.identity(os.environ.get("CK_STAND_IN_MODEL", "stand-in")))

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
    reply: str = REPLY,
    base: bool = False,
    delay_s: float = 0.0,
    calls: list[Any] | None = None,
    thinks: bool = False,
    sampling: Any = None,
) -> Callable[..., Model]:
    """A `ck.compile` whose models say `reply`; `calls` gets the arguments and the model of every call."""

    def compile_(path: Any, **options: Any) -> Model:
        exe = Executable(reply, options["context_len"] or 4096, options["chunk"], options["threads"], delay_s)
        model = Model(exe, None if base else Template(thinks), {"program": __file__})
        model.sampling = sampling
        if calls is not None:
            calls.append(SimpleNamespace(path=path, options=options, model=model))
        return model

    return compile_


if __name__ == "__main__":
    import ck
    from ck.cli.main import main

    delay_s = float(os.environ.get("CK_STAND_IN_DELAY", "0"))
    thinks = "CK_STAND_IN_THINKS" in os.environ
    ck.compile = compiler(os.environ.get("CK_STAND_IN_REPLY", REPLY), delay_s=delay_s, thinks=thinks)
    sys.exit(main())
