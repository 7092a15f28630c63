"""From a run's configuration to what a trainer works with: tokenizer, token shards, template, program.

Everything that can be wrong with the data is found here, before the first step.
"""

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.backend.backends import BACKENDS, backend
from ck.errors import MalformedError, UsageError
from ck.frontend.hyperparameters import TemplateSizes
from ck.frontend.template import Template, template_of
from ck.runtime.trainable import Trainable, compile_trainable
from ck.train.batches import n_windows
from ck.train.config import VOCAB_MINIMUM, TrainConfig
from ck.train.corpus import Corpus, find_files
from ck.train.round_trip import round_trip
from ck.train.rundir import RunDirectory, disk_errors
from ck.train.schedules import check_schedule
from ck.train.tokenizer_training import Kind, TrainingTokenizer, load_tokenizer, train_tokenizer
from ck.train.tokens import TokenData, open_tokens, prepare_tokens

Say = Callable[[str], None]
# Tokenizers that are trained on the run's own data.
TOKENIZERS: dict[str, Kind] = {"bpe": "bpe", "ascii_bpe": "ascii_bpe"}


@dataclass(frozen=True)
class Prepared:
    """What a run trains with. total_steps: updates in all, whatever unit the configuration counts in."""

    tokenizer: TrainingTokenizer
    data: TokenData
    template: Template
    total_steps: int


def prepare(run: RunDirectory, config: TrainConfig, say: Say) -> Prepared:
    """Read the data, make or load the tokenizer, check the round trip and write the shards of a new run.

    Raises MalformedError for bad data, naming file and line, GateError when a text does not survive the
    tokenizer, UsageError for sizes that do not fit.
    """
    kind = TOKENIZERS.get(config.data.tokenizer)
    known = load_tokenizer(Path(config.data.tokenizer)) if kind is None else None
    is_ascii = (known.kind if known else kind) == "ascii_bpe"
    paths = tuple(Path(path) for path in config.data.paths)
    corpus = Corpus(paths, config.data.split, config.data.field, is_ascii)
    say("reading the data")
    find_files(paths, say)
    tokenizer = known or _train_tokenizer(corpus, kind or "bpe", config)
    round_trip(tokenizer, corpus).require()
    say("encoding the data")
    with disk_errors(run.path / "data"):
        tokenizer.save(run.path / "tokenizer.json")
        data = prepare_tokens(corpus, tokenizer, run.path / "data", config.data.dev_fraction, config.run.seed)
    needed, found = config.run.seq_len + 1, data.train.n_tokens
    if found < needed:
        raise MalformedError(
            f"{', '.join(config.data.paths)}: must give at least {needed} tokens for a sequence of "
            f"{config.run.seq_len}, found {found}; add text or lower --seq-len"
        )
    return _prepared(tokenizer, data, config)


def _train_tokenizer(corpus: Corpus, kind: Kind, config: TrainConfig) -> TrainingTokenizer:
    # Of what can be wrong here, only a text that is too small does not name it.
    try:
        return train_tokenizer(
            corpus, kind, config.model.vocab_size, config.data.special_tokens, VOCAB_MINIMUM
        )
    except UsageError as error:
        raise UsageError(f"{', '.join(config.data.paths)}: {error}") from error


def reopen(run: RunDirectory, config: TrainConfig) -> Prepared:
    """What `prepare` left in a run's directory. Raises MalformedError when it is damaged."""
    tokenizer = load_tokenizer(run.path / "tokenizer.json")
    return _prepared(tokenizer, open_tokens(run.path / "data", tokenizer), config)


def _prepared(tokenizer: TrainingTokenizer, data: TokenData, config: TrainConfig) -> Prepared:
    template = make_template(config, tokenizer.n_vocab)
    total = count_steps(config, data)
    check_schedule(total, config.optim)
    return Prepared(tokenizer, data, template, total)


def make_template(config: TrainConfig, n_vocab: int) -> Template:
    """The template of a configuration; its vocabulary is the tokenizer's, which has `n_vocab` tokens."""
    model = config.model
    if model.vocab_size not in (0, n_vocab):
        raise UsageError(f"--vocab-size: must be the tokenizer's {n_vocab}, found {model.vocab_size}")
    given: dict[str, Any] = {name: getattr(model, name) for name in TemplateSizes.__dataclass_fields__}
    given["vocab_size"] = n_vocab
    sizes = TemplateSizes(**given)
    return template_of(model.template, sizes)


def count_steps(config: TrainConfig, data: TokenData) -> int:
    """Updates of a run: as many as it says, or those that its epochs or tokens take."""
    run = config.run
    windows = run.batch * run.grad_accum
    if run.steps is not None:
        return run.steps
    if run.epochs is not None:
        return max(1, math.ceil(run.epochs * n_windows(data.train, run.seq_len) / windows))
    assert run.total_tokens is not None
    return max(1, math.ceil(run.total_tokens / (windows * run.seq_len)))


def build(
    run: RunDirectory,
    config: TrainConfig,
    template: Template,
    weights: Mapping[str, NDArray[np.float32]] | None,
    say: Say,
) -> Trainable:
    """Compile the run's program, leave its IR and text in the run's directory, and load it with weights."""
    trainable = compile_trainable(
        template,
        config.run.batch,
        config.run.seq_len,
        weights=weights,
        init=config.model.init,
        seed=config.run.seed,
        threads=config.run.threads,
        progress=lambda stage: say(f"compiling: {stage}"),
        **program_options(config),
    )
    made_by = trainable.program.backend
    for folder, pattern in (("ir", "*.mlir"), ("build", made_by.source_name)):
        with disk_errors(run.path / folder):
            (run.path / folder).mkdir(mode=0o700, exist_ok=True)
            for path in (trainable.program.directory / folder).glob(pattern):
                shutil.copyfile(path, run.path / folder / path.name)
    for other in {*BACKENDS} - {made_by.name}:
        # Of a run that goes on with another backend.
        with disk_errors(run.path / "build"):
            (run.path / "build" / backend(other).source_name).unlink(missing_ok=True)
    return trainable


def program_options(config: TrainConfig) -> dict[str, Any]:
    """The choices that a program is compiled for, and by what."""
    return {
        "optimizer": config.optim.optimizer,
        "decay": config.optim.decay,
        "dtype": config.run.dtype,
        "activation_budget": config.run.activation_budget,
        "backend": None if config.run.backend == "auto" else config.run.backend,
    }
