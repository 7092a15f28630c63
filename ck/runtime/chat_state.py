"""`StateKeeper`: conversations with one model, saved to files and taken up again."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ck.errors import UsageError
from ck.files import size_text
from ck.frontend.model_file import ModelFile
from ck.runtime.chat import Conversation
from ck.runtime.executable import Saved
from ck.runtime.state_file import ChatState, StateIdentity, read_state, write_state


class Keeping(Protocol):
    """What saving needs of `ck.runtime.executable.Executable`."""

    @property
    def n_ctx(self) -> int: ...
    @property
    def n_vocab(self) -> int: ...
    def save(self) -> Saved: ...
    def load(self, saved: Saved, /) -> None: ...


class StateKeeper:
    """For conversations on `exe`. `identity` says what that is of, and is asked when it is needed first.

    Settings and stream of a sampler are not kept.
    """

    def __init__(self, exe: Keeping, identity: Callable[[], StateIdentity]) -> None:
        self._exe, self._ask = exe, identity

    @cached_property
    def identity(self) -> StateIdentity:
        """What the states are of."""
        return self._ask()

    def save(self, talk: Conversation, path: Path) -> str:
        """Write `talk` to `path`; a line for a person. Raises as `write_state`."""
        state = ChatState(talk.session.fed, self._exe.save(), talk.system, talk.turns, talk.asked)
        n_bytes = write_state(path, self.identity, state)
        return f"saved {_size(state)}, {size_text(n_bytes)}, to {path.name}"

    def load(self, talk: Conversation, path: Path) -> str:
        """Let `talk` be what `path` has; a line for a person. Raises as `read_state`, and nothing changes."""
        state = read_state(path, self.identity, self._exe.n_ctx, self._exe.n_vocab)
        if talk.template is None and (state.turns or state.system is not None):
            raise UsageError(f"{path.name}: must be of raw text, as there is no chat template, it has turns")
        self._exe.load(state.saved)
        talk.session.resume(state.tokens)
        talk.system, talk.asked = state.system, state.asked
        talk.turns[:] = state.turns
        return f"loaded {_size(state)} from {path.name}"


def fingerprint(file: ModelFile) -> str:
    """SHA-256, in hex, of what tells a model from others, its weights among it: the header, each vector, and
    the first, middle and last row of each matrix. Two trainings of one shape differ in it.
    """
    digest = hashlib.sha256(file.header_digest().encode())
    for name, tensor in sorted(file.tensors.items()):
        n = tensor.shape[0]
        for first, count in [(0, n)] if len(tensor.shape) == 1 else [(0, 1), (n // 2, 1), (n - 1, 1)]:
            digest.update(file.rows(name, first, count).tobytes())
            file.drop_rows(name, first, count)
    return digest.hexdigest()


def _size(state: ChatState) -> str:
    return f"{len(state.turns)} messages, {len(state.tokens)} tokens of context"
