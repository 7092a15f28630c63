"""Starting and resuming runs: what `ck.train`, `ck train` and `ck resume` do."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ck import __version__
from ck.errors import MalformedError, UsageError
from ck.runtime.library import isa_path
from ck.runtime.trainable import Trainable
from ck.train.checkpoints import STATE, Checkpoint, Checkpoints
from ck.train.config import TrainConfig, dump_toml, load_config
from ck.train.config_sources import LENGTHS, flag_or_key
from ck.train.metrics import read_metrics
from ck.train.parity.wish import after_training, check_parity
from ck.train.rundir import RunDirectory
from ck.train.setup import Prepared, build, prepare, reopen
from ck.train.trainer import RECORD_KEYS, Quiet, Trainer, Watch


@dataclass(frozen=True)
class RunResult:
    """What a run came to. Losses are nats a token, the last of their kind; None where there was none."""

    path: Path
    step: int
    loss: float | None
    dev_loss: float | None
    dev_bits_per_byte: float | None


def start(name: str, config: TrainConfig, watch: Watch | None = None) -> RunResult:
    """Make run `name` and train it to its end.

    Raises ConflictError when there is such a run or a directory that is none, MalformedError for bad data
    before anything is trained, what `Trainer.train` raises, and where run.parity wants a comparison
    MachineError without PyTorch and GateError when a pass is required and there is none.
    """
    watch = watch or Quiet()
    check_parity(config)
    data = [Path(path) for path in config.data.paths]
    run = RunDirectory.create(name, data)
    with run.lock():
        # Another trainer may have begun it between the two lines above.
        RunDirectory.create(name, data)
        prepared = prepare(run, config, watch.say)
        trainable = build(run, config, prepared, None, watch.say)
        run.write_bytes("config.toml", dump_toml(config).encode())
        trainer = Trainer(run, config, prepared, trainable, watch)
        trainer.save_first()
        # Last: a directory with a run.json is a run, which can be resumed.
        run.write_json("run.json", _record(run, config, prepared, trainable))
        trainer.train()
    after_training(name, config, watch.say)
    return result(run)


def resume(
    name: str,
    watch: Watch | None = None,
    *,
    step: int | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
) -> RunResult:
    """Go on with run `name` from its newest checkpoint that verifies, or from that of `step`.

    `flags` and `sets` change what CHANGEABLE names: length, rate, clip, threads, backend, how often it saves.
    Raises UsageError when there is no such run or it is longer already than it is to be, MalformedError when
    nothing verifies; nothing is changed then.
    """
    watch = watch or Quiet()
    run = RunDirectory.open(name)
    _check_record(run)
    with run.lock():
        kept = load_config(run.path / "config.toml")
        config = load_config(run.path / "config.toml", flags, sets)
        check_parity(config)
        changes = _changes(kept, config)
        checkpoints = Checkpoints(run)
        checkpoint = checkpoints.load_newest(watch.say) if step is None else checkpoints.load(step)
        prepared = reopen(run, config)
        _check_fit(run, config, prepared, checkpoint)
        trainable = build(run, config, prepared, checkpoint.weights, watch.say)
        checkpoints.discard_after(checkpoint.step)
        changes |= _other_backend(run, trainable)
        if changes:
            _note(run, _lasting(config, prepared, trainable), config, checkpoint.step, changes)
        _say_other_kernels(run, watch)
        watch.say(_resuming(run, checkpoint.step, prepared.total_steps))
        trainer = Trainer(run, config, prepared, trainable, watch, checkpoint)
        # The trainable has its own copy; three times the parameters are not kept twice.
        del checkpoint
        trainer.train()
    after_training(name, config, watch.say)
    return result(run)


def _check_record(run: RunDirectory) -> None:
    """Raises MalformedError when run.json is not a training run's."""
    record: dict[str, Any] = run.read_json("run.json")
    kinds = {
        "hyperparameters": (dict, "an object"),
        "machine": (dict, "an object"),
        "changes": (list, "an array"),
    }
    for name, (kind, what) in kinds.items():
        found = record.get(name, None if name == "hyperparameters" else kind())
        if not isinstance(found, kind):
            raise MalformedError(
                f"{run.path / 'run.json'}: {name} must be {what}, found {type(found).__name__}"
            )


def _check_fit(run: RunDirectory, config: TrainConfig, prepared: Prepared, checkpoint: Checkpoint) -> None:
    """Raises MalformedError, UsageError when the run cannot go on from `checkpoint`."""
    step, total = checkpoint.step, prepared.total_steps
    missing = [key for key in RECORD_KEYS if key not in checkpoint.record]
    if missing:
        state = Checkpoints(run).path(step) / STATE
        raise MalformedError(f"{state}: record must have {', '.join(RECORD_KEYS)}, {missing[0]} is missing")
    if checkpoint.record["tokenizer_sha256"] != prepared.tokenizer.sha256:
        raise UsageError(f"{run.path}: tokenizer.json is not the one that step {step} was trained with")
    if total < step:
        length = next(name for name in LENGTHS if getattr(config.run, name) is not None)
        raise UsageError(
            f"{flag_or_key(f'run.{length}')}: must come to at least the {step} steps that are done, found "
            f"{total}; pass more, or go back with --step"
        )


def _resuming(run: RunDirectory, step: int, total: int) -> str:
    if step == total:
        return f"all {total} steps are done; for more: ck resume {run.argument} --steps {2 * total}"
    return f"resuming after step {step} of {total}"


# What a resumed run may differ in; anything else would make another run of it.
CHANGEABLE = (
    "run.steps",
    "run.epochs",
    "run.total_tokens",
    "run.threads",
    "run.backend",
    "run.save_every",
    "run.eval_every",
    "run.keep_last",
    "run.alerts",
    "run.parity",
    "optim.lr",
    "optim.max_grad_norm",
)


def _changes(kept: TrainConfig, config: TrainConfig) -> dict[str, list[Any]]:
    """The keys in which `config` differs: before and after. Raises UsageError for one that may not."""
    before, after = kept.model_dump(), config.model_dump()
    found = {
        f"{section}.{name}": [value, after[section][name]]
        for section, values in before.items()
        for name, value in values.items()
        if value != after[section][name]
    }
    wrong = [key for key in found if key not in CHANGEABLE]
    if wrong:
        raise UsageError(
            f"resume: {', '.join(wrong)} must stay as the run began; only {', '.join(CHANGEABLE)} may change"
        )
    return found


def _other_backend(run: RunDirectory, trainable: Trainable) -> dict[str, list[Any]]:
    """The backend before and now, where a run goes on with another one; nothing but this note changes."""
    now = trainable.program.backend.name
    before = run.read_json("run.json").get("backend", now)
    return {} if before == now else {"backend": [before, now]}


def _note(
    run: RunDirectory,
    lasting: Mapping[str, Any],
    config: TrainConfig,
    step: int,
    changes: dict[str, list[Any]],
) -> None:
    """Keep the changed configuration, and in run.json what lasts and after which step it holds."""
    run.write_bytes("config.toml", dump_toml(config).encode())
    record: dict[str, Any] = run.read_json("run.json")
    record |= lasting
    record["changes"] = [*record.get("changes", []), {"after_step": step, **changes}]
    run.write_json("run.json", record)


def _say_other_kernels(run: RunDirectory, watch: Watch) -> None:
    machine: dict[str, Any] = run.read_json("run.json").get("machine", {})
    began = machine.get("isa_path", isa_path())
    if began != isa_path():
        watch.say(f"the run began with kernels for {began}, these are for {isa_path()}: last bits may differ")


def _record(
    run: RunDirectory, config: TrainConfig, prepared: Prepared, trainable: Trainable
) -> dict[str, Any]:
    adapters = prepared.template.adapters
    return {
        "schema_version": 1,
        "ck": __version__,
        "name": run.path.name,
        "hyperparameters": asdict(prepared.template.hp),
        "n_parameters": prepared.template.n_parameters,
        **({} if prepared.base is None else {"base": prepared.base.record()}),
        **({} if adapters is None else {"adapters": asdict(adapters)}),
        **_lasting(config, prepared, trainable),
        "tokenizer_sha256": prepared.tokenizer.sha256,
        "machine": {"processor": platform.machine(), "isa_path": isa_path()},
    }


def _lasting(config: TrainConfig, prepared: Prepared, trainable: Trainable) -> dict[str, Any]:
    """What run.json says of the configuration that holds now."""
    return {
        "total_steps": prepared.total_steps,
        "config_sha256": hashlib.sha256(dump_toml(config).encode()).hexdigest(),
        "backend": trainable.program.backend.name,
    }


def result(run: RunDirectory) -> RunResult:
    """What the metrics and the checkpoints of a run say."""
    lines = read_metrics(run)
    last = {name: line[name] for line in lines for name in line}
    newest = max(Checkpoints(run).steps(), default=0)
    fields = ("loss", "dev_loss", "dev_bits_per_byte")
    return RunResult(run.path, newest, *(last.get(name) for name in fields))
