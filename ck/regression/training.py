"""The training checks of one template.

    tensors       transformers' parameters are ck's tensors, and each of them gets a gradient
    gradients     all of them against PyTorch's f64, each length, each backend (gradients.py)
    canary        DESIGN section 9's: losses of 200 steps, and the parameters after them
    step parity   the first gradients, and single PyTorch steps from ck's own state
    replay        the same run again, on another number of threads: equal bits
    backends      the same run by the other backend: equal bits
    resume        the same run from its middle on: equal bits
    overfit       one batch, again and again: its loss falls to a share of the first
    export        the run's model as a GGUF file: the same tensors, and the same losses

They share a run, whose configuration is the canary's but in the fast profile for its length.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.backend.backends import BACKENDS
from ck.frontend.model import open_file
from ck.frontend.template import Template, template_from
from ck.regression.gradients import Gradients
from ck.regression.models import model_of, random_weights, sizes_of
from ck.regression.rows import corpus, documents, packed
from ck.runtime.model import compile_model
from ck.runtime.trainable import Hyper, compile_trainable, sequences
from ck.train.checkpoints import OPTIMIZER, WEIGHTS
from ck.train.config import OptimConfig, load_config
from ck.train.export.gguf_file import export_gguf
from ck.train.export.source import ExportSource, StoredWeights, source_of_run
from ck.train.metrics import TIMES, read_metrics
from ck.train.parity.figures import Check, Figure
from ck.train.parity.report import ParityReport, parity
from ck.train.parity.steps import StepParity, record_step
from ck.train.runs import resume, start

CHECKS = (
    "tensors", "gradients", "canary", "step parity", "replay", "backends", "resume", "overfit", "export",
)  # fmt: skip
CANARY: Mapping[str, Any] = {
    "lr": 3e-4, "schedule": "constant", "grad_accum": 4, "seq_len": 32, "batch": 2, "parity": "off",
}  # fmt: skip
# Of the loss of the first step, after OVERFIT_STEPS on one batch.
OVERFIT_SHARE, OVERFIT_STEPS, OVERFIT_RATE = 0.1, 60, 1e-2
# A token's loss from the file: the same numbers in another program.
EXPORT_MAX = 1e-4


@dataclass(frozen=True)
class TrainingProfile:
    """How much is done: sizes and lengths of the gradients, steps of the run, lengths of single steps."""

    sizes: tuple[str, ...]
    lengths: tuple[int, ...]
    steps: int
    step_lengths: tuple[int, ...]


# 64 rows, as a batch of the run has: one program a backend does.
FAST = TrainingProfile(("small",), (64,), 12, ())
FULL = TrainingProfile(("small", "odd"), (1, 63, 64, 65, 300), 200, (1, 63, 64, 65, 300))


class TrainingChecks:
    """The checks of `template`, which leave their runs in `folder`."""

    def __init__(self, template: str, profile: TrainingProfile, folder: Path) -> None:
        self.template, self.profile, self.folder = template, profile, folder
        self._data = folder / "corpus.txt"
        self._data.write_text(corpus())

    def parts(self) -> list[tuple[tuple[str, ...], Callable[[], Iterable[Check]]]]:
        """What makes which of CHECKS, in order."""
        return [
            (("tensors", "gradients"), self._gradients),
            (("canary", "step parity"), self._parity),
            (("replay",), self._replay),
            (("backends",), self._backends),
            (("resume",), self._resume),
            (("overfit",), self._overfit),
            (("export",), self._export),
        ]

    def _gradients(self) -> list[Check]:
        made: list[list[Check]] = []
        for size in self.profile.sizes:
            model = model_of(self.template, size)
            both = Gradients(model, random_weights(model), max(self.profile.lengths), tuple(BACKENDS))
            made.append(both.compare(self.profile.lengths))
        return [_joined(self.profile.sizes, checks) for checks in zip(*made, strict=True)]

    @cached_property
    def _small(self) -> Template:
        return model_of(self.template, "small")

    @cached_property
    def _run(self) -> Path:
        return self._train("run")

    def _train(self, name: str, steps: int | None = None, **changes: Any) -> Path:
        count = steps or self.profile.steps
        sizes = sizes_of(self.template, "small")
        windows = [f"model.{key}={sizes.pop(key)}" for key in list(sizes) if "window" in key]
        flags = {
            "template": self.template, "data": [str(self._data)], **sizes, **CANARY, "steps": count,
            "save_every": max(1, count // 2), "eval_every": count, "threads": 1, "backend": "c", **changes,
        }  # fmt: skip
        # Documents so short that every row of a batch has several.
        return start(str(self.folder / name), load_config(None, flags, ("data.split=line", *windows))).path

    def _parity(self) -> list[Check]:
        report = parity(str(self._run), _silent)
        lengths = self.profile.step_lengths
        alone = [self._step(n, each) for n in lengths for each in BACKENDS]
        return [_canary(report), _worst_of([*report.checks, *alone])]

    def _step(self, n: int, backend: str) -> Check:
        """Step parity of one document of `n` tokens, from random weights.

        One of a single token has another beside it: without, q and k have no gradient to be near to.
        """
        model, optim = self._small, OptimConfig()
        weights = random_weights(model)
        rows = documents([n] if n > 1 else [n, 2], model.hp.n_vocab, seed=4)
        rows.targets[-1] = 5
        ours = compile_trainable(
            model, 1, max(self.profile.lengths), weights=weights, threads=1, backend=backend
        )
        batch = packed(rows, 0, len(rows.tokens))
        step = record_step(ours, [batch], optim.lr, Hyper(), 1)
        found = StepParity(model, optim).check(step)
        return Check(f"{found.name}, T {n}, {backend}", found.figures)

    def _replay(self) -> list[Check]:
        return [self._same("replay", self._train("replay", threads=2))]

    def _backends(self) -> list[Check]:
        return [self._same("backends", self._train("other", backend="llvm"))]

    def _resume(self) -> list[Check]:
        again = shutil.copytree(self._run, self.folder / "again", symlinks=True)
        resume(str(again), step=self.profile.steps // 2)
        return [self._same("resume", again)]

    def _same(self, name: str, other: Path) -> Check:
        """The run against another: files of the last checkpoint, and metrics without their times."""
        last = f"checkpoints/step-{self.profile.steps}"
        files = [
            file
            for file in (WEIGHTS, OPTIMIZER)
            if (self._run / last / file).read_bytes() != (other / last / file).read_bytes()
        ]
        ours, theirs = (
            [{key: value for key, value in line.items() if key not in TIMES} for line in read_metrics(run)]
            for run in (self._run, other)
        )
        steps = [line for line, same in zip(ours, theirs, strict=False) if line != same]
        n_steps = len(steps) + abs(len(ours) - len(theirs))
        figures = (
            Figure("files that differ", len(files), 0, ", ".join(files) or None),
            Figure("steps that differ", n_steps, 0, f"first {steps[0]['step']}" if steps else None),
        )
        return Check(name, figures)

    def _overfit(self) -> list[Check]:
        model = self._small
        rows = documents([33, 33], model.hp.n_vocab).tokens.reshape(2, 33)
        ours = compile_trainable(model, 1, max(self.profile.lengths), backend="c")
        hyper = Hyper(lr=OVERFIT_RATE, weight_decay=0.0)
        losses = [ours.step(rows[:, :-1], rows[:, 1:], hyper).loss for _ in range(OVERFIT_STEPS)]
        share = Figure("last loss over the first", losses[-1] / losses[0], OVERFIT_SHARE)
        return [Check("overfit", (share,), {"losses": losses})]

    def _export(self) -> list[Check]:
        source = source_of_run(self._run, None, _silent)
        path = self.folder / "exported.gguf"
        assert source.vocabulary is not None
        export_gguf(path, source.hp, source.weights, source.vocabulary)
        back = StoredWeights(open_file(path))
        # A file may have a tensor in another form, under another name.
        both = source.weights.keys() & {*back}
        other = sorted(name for name in both if not np.array_equal(source.weights[name], back[name]))
        ids = documents([64], source.hp.n_vocab, seed=5).tokens
        apart = np.abs(_losses(compile_model(path, dtype="f32", kv="f32")(ids), ids) - self._nll(source, ids))
        figures = (
            Figure("tensors that differ", len(other), 0, ", ".join(other) or None),
            Figure("tensors in another form", len(source.weights) - len(both), reason="reported"),
            Figure("max |difference| of a loss", float(apart.max()), EXPORT_MAX),
        )
        return [Check("export", figures)]

    def _nll(self, source: ExportSource, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """The losses of `ids` by the training program."""
        rows = max(self.profile.lengths)
        ours = compile_trainable(template_from(source.hp), 1, rows, weights=source.weights, backend="c")
        return ours.evaluate(sequences(ids[:-1], ids[1:]))


def _silent(line: str) -> None:
    """Progress that nobody reads."""


def _joined(names: Sequence[str], checks: Sequence[Check]) -> Check:
    """Checks of one name as one, each figure under the name of where it is from."""
    figures = tuple(
        Figure(
            f"{each.name}, {name}" if name and len(checks) > 1 else each.name,
            each.value,
            each.limit,
            each.where,
            each.reason,
        )
        for name, check in zip(names, checks, strict=True)
        for each in check.figures
    )
    return Check(checks[0].name, figures)


def _canary(report: ParityReport) -> Check:
    """The figures that have the canary's limits."""
    figures = [
        Figure(f"{check.name}, {each.name}", each.value, each.limit, each.where, each.reason)
        for check in report.checks
        for each in check.figures
        if check.name == "loss curve" or (check.name.startswith("parameters") and "max" in each.name)
    ]
    return Check("canary", tuple(figures))


def _worst_of(checks: Iterable[Check]) -> Check:
    """The first gradients and the single steps: of each figure with a limit the worst, and whose it is."""
    figures: dict[str, Figure] = {}
    for check in checks:
        if check.name.startswith(("gradients", "step parity")):
            for each in check.figures:
                worst = figures.get(each.name)
                is_worse = worst is None or (each.value or 0) > (worst.value or 0)
                if each.limit is not None and is_worse:
                    where = check.name if each.where is None else f"{check.name}, {each.where}"
                    figures[each.name] = Figure(each.name, each.value, each.limit, where, each.reason)
    return Check("step parity", tuple(figures.values()))


def _losses(logits: NDArray[np.float32], ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """-log p of each id but the first, of logits [T, V]."""
    wide = logits[:-1].astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    rows = np.arange(len(wide))
    return np.log(np.exp(wide).sum(-1)) - wide[rows, ids[1:]]
