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
from ck.errors import MalformedError, ResourceError, UsageError
from ck.frontend.adapters import Adapters, choose
from ck.frontend.hyperparameters import HyperParameters, TemplateSizes
from ck.frontend.template import Template, template_from, template_of
from ck.runtime.machine import available_memory_bytes
from ck.runtime.trainable import Trainable, compile_trainable
from ck.train.base import Base, open_base, reopen_base
from ck.train.base_side import kept_tokenizer, side_of
from ck.train.batches import n_windows
from ck.train.config import VOCAB_MINIMUM, TrainConfig
from ck.train.corpus import Corpus, find_files
from ck.train.export.source import read_hyperparameters
from ck.train.model_tokenizer import DocumentTokenizer
from ck.train.round_trip import round_trip
from ck.train.rundir import INTACT, NOTHING, RunDirectory, disk_errors
from ck.train.schedules import check_schedule
from ck.train.tokenizer_training import Kind, TrainingTokenizer, load_tokenizer, train_tokenizer
from ck.train.tokens import TokenData, open_tokens, prepare_tokens

Say = Callable[[str], None]
# Tokenizers that are trained on the run's own data.
TOKENIZERS: dict[str, Kind] = {"bpe": "bpe", "ascii_bpe": "ascii_bpe"}


@dataclass(frozen=True)
class Prepared:
    """What a run trains with.

    total_steps   updates in all, whatever unit the configuration counts in
    base          the model that it begins with, where that is needed; None where it is not
    """

    tokenizer: DocumentTokenizer
    data: TokenData
    template: Template
    total_steps: int
    base: Base | None = None

    @property
    def frozen(self) -> Mapping[str, NDArray[np.float32]] | None:
        """The weights under adapters."""
        return None if self.base is None or self.template.adapters is None else self.base.weights

    def first_weights(self, config: TrainConfig) -> Mapping[str, NDArray[np.float32]]:
        """What the trained tensors begin as."""
        if self.base is not None and self.template.adapters is None:
            return self.base.weights
        return self.template.initial_weights(config.model.init, config.run.seed)


def prepare(run: RunDirectory, config: TrainConfig, say: Say) -> Prepared:
    """Read the data, make or load the tokenizer, check the round trip and write the shards of a new run.

    Raises MalformedError for bad data, naming file and line, GateError when a text does not survive the
    tokenizer, UsageError for sizes that do not fit.
    """
    base = None if config.model.base is None else open_base(config.model.base)
    if base is not None:
        _check_base(base, config)
    kind = None if base is not None else TOKENIZERS.get(config.data.tokenizer)
    known = load_tokenizer(Path(config.data.tokenizer)) if base is None and kind is None else None
    is_ascii = (known.kind if known else kind) == "ascii_bpe"
    paths = tuple(Path(path) for path in config.data.paths)
    corpus = Corpus(paths, config.data.split, config.data.field, is_ascii)
    say("reading the data")
    find_files(paths, say)
    if base is not None:
        tokenizer: DocumentTokenizer = base.tokenizer()
        base.keep_side(run)
        _say_what_changes(tokenizer, corpus, say)
    else:
        tokenizer = known or _train_tokenizer(corpus, kind or "bpe", config)
        round_trip(tokenizer, corpus).require()
    say("encoding the data")
    with disk_errors(run.path / "data", NOTHING):
        tokenizer.save(run.path / "tokenizer.json")
        data = prepare_tokens(corpus, tokenizer, run.path / "data", config.data.dev_fraction, config.run.seed)
    _check_length(config, data)
    template = make_template(config, tokenizer.n_vocab) if base is None else base_template(config, base.hp)
    return _prepared(tokenizer, data, template, config, base)


def _check_base(base: Base, config: TrainConfig) -> None:
    """Raises UsageError for sequences that the model is too short for, ResourceError for one too large."""
    if config.run.seq_len > base.hp.context_length:
        raise UsageError(
            f"--seq-len: must be at most the {base.hp.context_length} positions of {config.model.base}, "
            f"found {config.run.seq_len}"
        )
    count = sum(math.prod(tensor.shape) for tensor in base.file.tensors.values())
    # Adapters are a few in a hundred of what is under them.
    copies = 1 if config.lora.rank else {"adamw": 4, "sgd": 3}[config.optim.optimizer]
    needed, there = 4 * count * copies, available_memory_bytes()
    if needed > there:
        what = "weights" if copies == 1 else "weights, gradients and moments"
        advice = "take a smaller model" if copies == 1 else "train adapters with --lora r=8"
        raise ResourceError(
            f"{config.model.base}: {what} of {count} numbers in f32 take {needed >> 20} MiB, there are "
            f"{there >> 20} MiB; {advice}"
        )


def _say_what_changes(tokenizer: DocumentTokenizer, corpus: Corpus, say: Say) -> None:
    """A model's own tokenizer is taken as it is, also where it does not give a text back."""
    found = round_trip(tokenizer, corpus)
    if found.first is not None:
        at = f"{found.first.path}:{found.first.line}"
        say(
            f"the model's tokenizer changes {found.n_mismatches} of {found.n_documents} documents, first {at}"
        )


def _check_length(config: TrainConfig, data: TokenData) -> None:
    needed, found = config.run.seq_len + 1, data.train.n_tokens
    if found < needed:
        raise MalformedError(
            f"{', '.join(config.data.paths)}: must give at least {needed} tokens for a sequence of "
            f"{config.run.seq_len}, found {found}; add text or lower --seq-len"
        )


def _train_tokenizer(corpus: Corpus, kind: Kind, config: TrainConfig) -> TrainingTokenizer:
    # Of what can be wrong here, only a text that is too small does not name it.
    try:
        return train_tokenizer(
            corpus, kind, config.model.vocab_size, config.data.special_tokens, VOCAB_MINIMUM
        )
    except UsageError as error:
        raise UsageError(f"{', '.join(config.data.paths)}: {error}") from error


def reopen(run: RunDirectory, config: TrainConfig, needs_base: bool = False) -> Prepared:
    """What `prepare` left in a run's directory; the model it began with is opened for its adapters.

    needs_base   or for its first weights. Raises MalformedError when something is damaged.
    """
    side = side_of(run.path)
    if side is None:
        tokenizer = load_tokenizer(run.path / "tokenizer.json")
        template = make_template(config, tokenizer.n_vocab)
        return _prepared(tokenizer, open_tokens(run.path / "data", tokenizer), template, config)
    hp = run_hyperparameters(run)
    base = reopen_base(run.path) if needs_base or config.lora.rank else None
    kept = kept_tokenizer(side, hp.n_vocab)
    data = open_tokens(run.path / "data", kept)
    return _prepared(kept, data, base_template(config, hp), config, base)


def run_hyperparameters(run: RunDirectory) -> HyperParameters:
    """The numbers of a run's model. Raises MalformedError."""
    record: Any = run.read_json("run.json")
    return read_hyperparameters(record.get("hyperparameters"), str(run.path / "run.json"))


def _prepared(
    tokenizer: DocumentTokenizer,
    data: TokenData,
    template: Template,
    config: TrainConfig,
    base: Base | None = None,
) -> Prepared:
    total = count_steps(config, data)
    check_schedule(total, config.optim)
    return Prepared(tokenizer, data, template, total, base)


def base_template(config: TrainConfig, hp: HyperParameters) -> Template:
    """The template of the model that a run begins with, with the run's adapters. Raises UsageError."""
    lora = config.lora
    whole = template_from(hp)
    if not lora.rank:
        return whole
    # The IR's frontend is imported for the list of products alone.
    from ck.frontend.adapted_graph import products

    weights = choose(hp, products(whole), lora.targets)
    assert lora.alpha is not None
    return template_from(hp, Adapters(lora.rank, lora.alpha, weights))


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
    prepared: Prepared,
    weights: Mapping[str, NDArray[np.float32]] | None,
    say: Say,
) -> Trainable:
    """Compile the run's program, leave its IR and text in the run's directory, and load it with weights.

    None: with the first ones.
    """
    trainable = compile_trainable(
        prepared.template,
        config.run.batch,
        config.run.seq_len,
        weights=prepared.first_weights(config) if weights is None else weights,
        frozen=prepared.frozen,
        threads=config.run.threads,
        progress=lambda stage: say(f"compiling: {stage}"),
        **program_options(config),
    )
    made_by, kept = trainable.program.backend, INTACT if (run.path / "run.json").is_file() else NOTHING
    for folder, pattern in (("ir", "*.mlir"), ("build", made_by.source_name)):
        with disk_errors(run.path / folder, kept):
            (run.path / folder).mkdir(mode=0o700, exist_ok=True)
            for path in (trainable.program.directory / folder).glob(pattern):
                shutil.copyfile(path, run.path / folder / path.name)
    for other in {*BACKENDS} - {made_by.name}:
        # Of a run that goes on with another backend.
        with disk_errors(run.path / "build", kept):
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
