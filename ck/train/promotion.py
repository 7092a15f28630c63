"""Promotion: a checkpoint becomes the run's model, the one that `ck run RUN` talks to.

The weights, with adapters merged, are written as `model.gguf` (f32, with the run's tokenizer), or as the
folder `model` where the run began with a model folder, whole or not at all; then run.json names it and the
step. Promoting again replaces it; a reader has the earlier model or the new one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ck.errors import MalformedError, UsageError
from ck.train.checkpoints import Checkpoints
from ck.train.export.gguf_file import export_gguf
from ck.train.export.huggingface import export_huggingface
from ck.train.export.source import promoted_step, source_of_run
from ck.train.rundir import RunDirectory

MODEL, MODEL_FOLDER = "model.gguf", "model"


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that can be promoted, unless there is `damage`: what is wrong with it."""

    step: int
    dev_loss: float | None
    is_latest: bool
    is_best: bool
    is_promoted: bool
    damage: str | None


def candidates(name: str) -> list[Candidate]:
    """The checkpoints of run `name`, by step. Raises UsageError when there is no such run."""
    run = RunDirectory.open(name)
    checkpoints = Checkpoints(run)
    promoted = promoted_step(run.read_json("run.json"))
    latest, best = checkpoints.linked("latest"), checkpoints.linked("best")
    found: list[Candidate] = []
    for step in checkpoints.steps():
        loss, damage = None, None
        try:
            loss = checkpoints.verify(step)
        except MalformedError as error:
            damage = str(error)
        found.append(Candidate(step, loss, step == latest, step == best, step == promoted, damage))
    return found


def choose(name: str, which: str, say: Callable[[str], None]) -> int:
    """The step `which` means: a number, latest (the newest that verifies) or best.

    Raises UsageError for what there is not, MalformedError for a damaged one.
    """
    run = RunDirectory.open(name)
    checkpoints = Checkpoints(run)
    if which == "latest":
        return checkpoints.load_newest(say).step
    if which == "best":
        best = checkpoints.linked("best")
        if best is None:
            raise UsageError(f"{run.path}: no checkpoint has a dev loss; promote latest, or a --step")
        try:
            checkpoints.verify(best)
        except MalformedError as error:
            raise MalformedError(f"{error}; {_next_best(name, run)}") from error
        return best
    if not which.isdecimal():
        raise UsageError(f"--step: latest, best or a number is required, found {which}")
    return checkpoints.load(int(which)).step


def _next_best(name: str, run: RunDirectory) -> str:
    known = [(each.dev_loss, each.step) for each in candidates(name) if each.dev_loss is not None]
    if not known:
        return "no other checkpoint has a dev loss, promote latest"
    step = min(known)[1]
    return f"the next best is step {step}: ck promote {run.argument} --step {step}"


def promote(name: str, step: int, say: Callable[[str], None]) -> Path:
    """Make the checkpoint of `step` the run's model; returns the model file or folder.

    Raises UsageError when there is none, MalformedError for a damaged one, ConflictError while a trainer is
    at work on the run.
    """
    run = RunDirectory.open(name)
    with run.lock():
        source = source_of_run(run.path, step, say)
        vocabulary, text = source.vocabulary, source.tokenizer_json
        if vocabulary is None:
            target = run.path / MODEL_FOLDER
            export_huggingface(target, source.hp, source.weights, None, text, side=source.side, force=True)
        else:
            target = run.path / MODEL
            export_gguf(target, source.hp, source.weights, vocabulary, "f32", name=source.name, force=True)
        record: dict[str, Any] = run.read_json("run.json")
        record["model"] = {"file": target.name, "step": step}
        run.write_json("run.json", record)
    return target
