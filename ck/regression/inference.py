"""The inference checks of one template: random weights, through a GGUF file, in f32 with an f32 cache.

chunks        logits of a prompt in chunks against transformers'
one by one    the same, token by token
greedy ids    argmax after argmax, equal up to the first near-tie of transformers' logits
saved state   saved, gone on from, loaded: equal bits; rewound, where that can be: equal bits
threads       1 and 2: equal bits
backends      C and LLVM: equal bits
folder        the model as transformers' folder: equal bits
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.frontend.template import Template
from ck.regression.models import Weights, model_of, random_weights, transformers_model, vocabulary
from ck.runtime.model import Model, compile_model
from ck.train.export.gguf_file import export_gguf
from ck.train.export.huggingface import export_huggingface
from ck.train.export.source import source_of_gguf
from ck.train.parity.figures import Check, Figure
from ck.train.parity.pytorch import pytorch

Logits = NDArray[np.float32]

CHECKS = ("chunks", "one by one", "greedy ids", "saved state", "threads", "backends", "folder")
CHUNK, N_PROMPT = 72, 24
# DESIGN, section 9: torch's own f32 noise is 1e-4.
MAX_ABS = 1e-3
# A greedy step whose two best logits are this near may go either way, and every later step with it.
GREEDY_GAP = 1e-3
# Logits that are all alike would be near to anything.
LEAST_SPREAD = 1.0


@dataclass(frozen=True)
class InferenceProfile:
    """How much is done: the size of the model, tokens of the prompt, greedy steps."""

    size: str
    tokens: int
    greedy: int


FAST = InferenceProfile("small", 150, 32)
FULL = InferenceProfile("odd", 600, 64)


class InferenceChecks:
    """The checks of `template`, which leave their files in `folder`."""

    def __init__(self, template: str, profile: InferenceProfile, folder: Path) -> None:
        self.template, self.profile, self.folder = template, profile, folder

    def parts(self) -> list[tuple[tuple[str, ...], Callable[[], Iterable[Check]]]]:
        """What makes which of CHECKS, in order."""
        made = (
            self._chunks, self._one_by_one, self._greedy, self._saved, self._threads, self._backends,
            self._folder,
        )  # fmt: skip
        return [((name,), part) for name, part in zip(CHECKS, made, strict=True)]

    @cached_property
    def _model(self) -> Template:
        return model_of(self.template, self.profile.size)

    @cached_property
    def _weights(self) -> Weights:
        return random_weights(self._model)

    @cached_property
    def _ids(self) -> NDArray[np.int32]:
        n_vocab, n_tokens = self._model.hp.n_vocab, self.profile.tokens
        return np.random.default_rng(0).integers(0, n_vocab, n_tokens).astype(np.int32)

    @cached_property
    def _path(self) -> Path:
        path, hp = self.folder / "model.gguf", self._model.hp
        export_gguf(path, hp, self._weights, vocabulary(hp.n_vocab))
        return path

    def _compile(self, model: Path, **options: Any) -> Model:
        length = self._model.hp.context_length
        given: dict[str, Any] = {"backend": "c", "threads": 1, **options}
        return compile_model(model, dtype="f32", kv="f32", context_len=length, chunk=CHUNK, **given)

    @cached_property
    def _ours(self) -> Model:
        return self._compile(self._path)

    @cached_property
    def _logits(self) -> Logits:
        return self._ours(self._ids)

    @cached_property
    def _theirs(self) -> Any:
        return transformers_model(self._model.hp, self._weights)

    @cached_property
    def _want(self) -> Logits:
        torch = pytorch()
        with torch.inference_mode():
            return self._theirs(torch.from_numpy(self._ids.astype(np.int64))[None]).logits[0].numpy()

    def _chunks(self) -> list[Check]:
        apart = np.abs(self._logits - self._want).max(-1)
        spread = float(np.ptp(self._want))
        figures = (
            Figure("max |difference|", float(apart.max()), MAX_ABS, f"row {int(apart.argmax())}"),
            # At most, as all limits are.
            Figure("least spread over the logits' own", LEAST_SPREAD / spread, 1.0),
        )
        return [Check("chunks", figures)]

    def _one_by_one(self) -> list[Check]:
        exe = self._ours.exe
        exe.reset()
        apart = np.array(
            [np.abs(exe.decode(int(t)) - want).max() for t, want in zip(self._ids, self._want, strict=True)]
        )
        figure = Figure("max |difference|", float(apart.max()), MAX_ABS, f"row {int(apart.argmax())}")
        return [Check("one by one", (figure,))]

    def _greedy(self) -> list[Check]:
        prompts = [self._ids[start : start + N_PROMPT] for start in (0, 100)]
        runs = [greedy(self._ours, self._theirs, prompt, self.profile.greedy) for prompt in prompts]
        differing, compared = sum(run.differs is not None for run in runs), max(run.compared for run in runs)
        where = next((f"step {run.differs}" for run in runs if run.differs is not None), None)
        figures = (
            Figure("runs that differ", differing, 0, where),
            # A model whose every step is a near-tie shows nothing.
            Figure("steps wanted over those compared", self.profile.greedy / 4 / max(compared, 1), 1.0),
        )
        return [Check("greedy ids", figures, {"compared": compared})]

    def _saved(self) -> list[Check]:
        exe, (head, tail) = self._ours.exe, np.split(self._ids, [N_PROMPT])
        tail = tail[:N_PROMPT]
        exe.reset()
        exe.prefill(head)
        saved = exe.save()
        first = exe.score(tail)
        exe.load(saved)
        loaded = exe.score(tail)
        exe.load(saved)
        exe.decode(int(tail[0]))
        rewound = exe.score(tail) if exe.rewind(N_PROMPT) else None
        figures = (
            rows_that_differ("rows that differ, loaded", first, loaded),
            rows_that_differ("rows that differ, rewound", first, rewound, "its state does not go back"),
        )
        return [Check("saved state", figures)]

    def _threads(self) -> list[Check]:
        return [self._same("threads", self._compile(self._path, threads=2))]

    def _backends(self) -> list[Check]:
        return [self._same("backends", self._compile(self._path, backend="llvm"))]

    def _folder(self) -> list[Check]:
        source, folder = source_of_gguf(self._path), self.folder / "transformers"
        # From the same numbers as the file: a round trip through either's conventions may cost a rounding.
        made_of = self._model.hp, self._weights, source.vocabulary, source.tokenizer_json
        export_huggingface(folder, *made_of)
        other = self._compile(folder)
        if {*source.weights} == {*self._weights}:
            return [self._same("folder", other)]
        apart = float(np.abs(self._logits - other(self._ids)).max())
        return [Check("folder", (Figure("max |difference|, tensors in another form", apart, MAX_ABS),))]

    def _same(self, name: str, other: Model) -> Check:
        return Check(name, (rows_that_differ("rows that differ", self._logits, other(self._ids)),))


def rows_that_differ(name: str, want: Logits, got: Logits | None, reason: str | None = None) -> Figure:
    """How many rows have other bits; not compared, for `reason`, where there are none to compare."""
    if got is None:
        return Figure(name, None, 0, reason=reason)
    rows = np.flatnonzero((want != got).any(-1))
    return Figure(name, len(rows), 0, f"first {rows[0]}" if len(rows) else None)


@dataclass(frozen=True)
class GreedyRun:
    """Steps that had to be equal, and the first that was not."""

    compared: int
    differs: int | None


def greedy(ours: Model, theirs: Any, prompt: NDArray[np.int32], steps: int) -> GreedyRun:
    """argmax after `prompt` on both sides, up to the first near-tie or the first difference."""
    torch = pytorch()
    ours.exe.reset()
    logits = ours.exe.prefill(prompt)
    ids: list[int] = prompt.tolist()
    for step in range(steps):
        # The whole text each time: its cache has changed its name from release to release.
        with torch.inference_mode():
            best = theirs(torch.tensor([ids]), use_cache=False).logits[0, -1].topk(2)
        if float(best.values[0] - best.values[1]) < GREEDY_GAP:
            return GreedyRun(step, None)
        if int(np.argmax(logits)) != int(best.indices[0]):
            return GreedyRun(step, step)
        ids.append(int(best.indices[0]))
        logits = ours.exe.decode(ids[-1])
    return GreedyRun(steps, None)
